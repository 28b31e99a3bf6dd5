"""States of a store in which other systems are stuck: each is named, and mended by one command or through the API.

A prober asks all the time, and no answer may be wrong, for what was served stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from interlock.errors import ApiRefused
from tests.faults.deployments import ENVIRONMENTS, Deployment, Prober, StoreServer, events
from tests.faults.test_mass_deletion import MEMORY_ONLY, StartStore, start_store
from tests.interlock.processes import run_here, wait_until
from tests.waiting import scaled

__all__ = ["start_store"]

HUGE = 10**30
LARGEST = "18446744073709551615-18446744073709551615"  # the last position that a stream can have


def key(id_: str) -> str:
    return f"interlock:environment:{id_}"


def line(server: StoreServer, id_: str, written: str) -> None:
    server.run("HSET", "interlock:environments", id_, written)


def wrong_type(server: StoreServer, name: str) -> None:
    server.run("DEL", name)
    server.run("LPUSH", name, "something else")


Damage = Callable[[StoreServer, str], object]
DAMAGES: dict[str, tuple[Damage, str, bool]] = {
    # what is done to an environment, what is said of it, and whether its document can be adopted
    "changed by hand": (lambda server, id_: server.run("APPEND", key(id_), " "), "not the one", True),
    "another digest": (lambda server, id_: line(server, id_, "7 digest -"), "not the one", True),
    "a garbage line": (lambda server, id_: line(server, id_, "garbage"), "cannot be read", True),
    "a huge revision": (lambda server, id_: line(server, id_, f"{HUGE} digest -"), "cannot be read", True),
    "a deletion by hand": (lambda server, id_: line(server, id_, "9 deleted"), "says that it was deleted", True),
    "garbage": (lambda server, id_: server.run("SET", key(id_), "garbage"), "not the one", False),
    "50 MB": (lambda server, id_: server.run("SETRANGE", key(id_), str(50 << 20), "x"), "octets", False),
    "gone": (lambda server, id_: server.run("DEL", key(id_)), "is gone", False),
    "a list": (lambda server, id_: wrong_type(server, key(id_)), "no string", False),
}


def store_check(deployment: Deployment, *flags: str) -> tuple[int, list[dict[str, str]]]:
    """The exit status and the findings of ``interlock store check``."""
    status, out, err = run_here("store", "check", "--redis", f"unix://{deployment.socket}", "--json", *flags)
    assert "Traceback" not in err
    return status, json.loads(out)


def replace(deployment: Deployment, id_: str) -> int:
    """Replaces a damaged environment through the API; the status of the answer."""
    request = Request(
        f"{deployment.client.url}/v1/environments/{id_}?replace=damaged",
        b"{}",
        {"Authorization": f"Bearer {deployment.client.token}", "Content-Type": "application/json"},
        method="PUT",
    )
    try:
        with urlopen(request, timeout=scaled(20)) as response:
            return int(response.status)
    except HTTPError as error:
        with error:
            return error.code


def is_answered(deployment: Deployment, service: str) -> None:
    """Returns once a new service of ``e0`` is answered, so that new commits arrive."""
    revision = deployment.client.put("environments", "e0", "services", service, body={})["revision"]
    wait_until(lambda: deployment.metric('interlock_environment_revision{environment="e0"}') == revision)


def test_damaged_environments(start_store: StartStore, tmp_path: Path) -> None:
    server = start_store(*MEMORY_ONLY)
    with Deployment.running(tmp_path, server) as deployment:
        deployment.populate()
        damaged = {f"e{number + 1}": name for number, name in enumerate(DAMAGES)}
        lost = {id_ for id_, name in damaged.items() if not DAMAGES[name][2]}
        with Prober(deployment.dns, deployment.expected) as prober:
            for id_, name in damaged.items():
                DAMAGES[name][0](server, id_)
            compared = deployment.metric("interlock_index_comparisons_total")
            server.drop_clients()  # a new connection compares at once, and not only every 30 s
            wait_until(lambda: quarantined(deployment) == len(damaged))
            compared = deployment.metric("interlock_index_comparisons_total") - compared
            print(f"all of {len(damaged)} damaged environments were named within {compared:.0f} comparison(s)")
            said = {one["environment"]: one["reason"] for one in events(deployment.resolver, "document_quarantined")}
            for id_, name in damaged.items():
                assert DAMAGES[name][1] in said[id_]
                with pytest.raises(ApiRefused, match="is damaged in the store: ") as refused:
                    deployment.client.put("environments", id_, "services", "more", body={})
                assert refused.value.kind == "damaged"
            is_answered(deployment, "before")

            status, found = store_check(deployment)
            assert (status != 0, {one["what"] for one in found}) == (True, {f"environment {id_}" for id_ in damaged})
            prober.until_asked()
            status, found = store_check(deployment, "--repair")
            left = {one["what"] for one in found if "is now revision" not in one["outcome"]}
            assert (status != 0, left) == (True, {f"environment {id_}" for id_ in lost})
            wait_until(lambda: quarantined(deployment) == len(lost))
            prober.until_asked()
        report(prober)

        *replaced, deleted = sorted(lost)
        for id_ in replaced:
            assert replace(deployment, id_) in (200, 201)
            deployment.client.put("environments", id_, "services", "anew", body={})
        deployment.client.delete("environments", deleted)
        assert store_check(deployment) == (0, [])
        wait_until(lambda: not quarantined(deployment))
        wait_until(lambda: deployment.metric("interlock_environments") == ENVIRONMENTS - 1)
        is_answered(deployment, "after")


def quarantined(deployment: Deployment) -> float:
    """How many environments the resolver names as damaged."""
    return deployment.metric("interlock_environments_quarantined")


def report(prober: Prober) -> None:
    print(f"{prober.asked} queries: {prober.right} right, {prober.wrong.total()} wrong, {prober.unanswered} unanswered")
    assert prober.wrong == {}
    assert prober.unanswered == 0


WRONG_KEYS: dict[str, tuple[Callable[[StoreServer], object], str]] = {
    # what is wrong, how it comes about, and what a write is told; nothing where it needs that key not
    "changes": (lambda server: wrong_type(server, "interlock:changes"), "interlock:changes is of the type list"),
    "changes, used up": (
        lambda server: server.run("XADD", "interlock:changes", LARGEST, "hello", "world"), "stream has exhausted",
    ),
    "environments": (lambda server: wrong_type(server, "interlock:environments"), "interlock:environments"),
    "environments, evicted": (lambda server: server.run("DEL", "interlock:environments"), "damaged in the store"),
    "epoch": (lambda server: wrong_type(server, "interlock:epoch"), "interlock:epoch is of the type list"),
    "networks": (lambda server: wrong_type(server, "interlock:networks"), "interlock:networks is of the type list"),
    "guard": (lambda server: wrong_type(server, "interlock:guard"), ""),
}  # fmt: skip


def test_keys_that_are_not_what_they_must_be(start_store: StartStore, tmp_path: Path) -> None:
    server = start_store(*MEMORY_ONLY)
    with Deployment.running(tmp_path, server) as deployment:
        deployment.populate()
        with Prober(deployment.dns, deployment.expected) as prober:
            for number, (what, (make, told)) in enumerate(WRONG_KEYS.items()):
                make(server)
                server.drop_clients()  # a new connection compares at once, and not only every 30 s
                if told:
                    with pytest.raises(ApiRefused, match=told):
                        deployment.client.put("environments", "e0", "services", "refused", body={})
                status, found = store_check(deployment)
                name = f"interlock:{what.partition(',')[0]}"
                assert status != 0
                assert any(one["what"] == name for one in found) or "evicted" in what
                prober.until_asked(500)
                status, found = store_check(deployment, "--repair")
                assert (status, store_check(deployment)) == (0, (0, [])), found
                is_answered(deployment, f"n{number}")
                wait_until(lambda: deployment.metric("interlock_guard_held") == 0)
                print(f"{what}: {found[0]['problem']}: {found[0]['outcome']}")
        report(prober)
