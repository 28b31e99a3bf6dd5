"""What a machine without a mesh shows: its resolver, its upstreams, its own address; with real processes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from interlock.doctor.machine import (
    ResolverFacts,
    UpstreamFacts,
    judge_resolver,
    judge_upstreams,
    read_readiness,
    read_upstreams,
)
from interlock.doctor.marks import Standing
from support.patience import patience
from tests.interlock.processes import Running, get, interlock, run_here, started, wait_until


@contextmanager
def up(state: Path, *flags: str) -> Iterator[tuple[Running, str, str]]:
    """`interlock up` in ``state``, with the address of its DNS and the URL of its API."""
    listen = ("--dns-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--log-format", "json")
    with started(*interlock("up", "--state-dir", str(state), *listen, *flags)) as process:
        wait_until(
            lambda: '"event":"http_listening"' in process.errors.replace(" ", "") and "dns_listening" in process.errors
        )
        events = {one["event"]: one for line in process.errors.splitlines() if (one := json.loads(line))}
        api = f"http://{events['http_listening']['address']}"
        wait_until(lambda: get(f"{api}/readyz")[0] == 200)
        yield process, events["dns_listening"]["addresses"][0], api


def examine(state: Path, dns: str, api: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """What the doctor says on this machine."""
    where = ["--state-dir", str(state), "--api", api, "--agent-dir", "", "--ops-listen", ""]
    where += ["--dns-listen", dns] if dns else []
    status, out, errors = run_here("doctor", "--json", *where, *arguments)
    assert out, errors
    return status, json.loads(out)


def test_dead_upstreams_a_stranger_and_a_stopped_process_are_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        upstream = f"127.0.0.1:{silent.getsockname()[1]}"
        with up(tmp_path, "--upstream", upstream) as (_, dns, api):
            status, report = examine(tmp_path, dns, api)
            assert (status, report["cause"]["check"]) == (2, "upstreams"), report
            assert (
                "no upstream resolver answers, so that names of the rest of the world fail" in report["cause"]["detail"]
            )
            assert upstream in report["cause"]["detail"]
            assert report["seconds"] < 2.0 * patience()
    with up(tmp_path, "--upstream", "none", "--demo") as (_, dns, api):
        status, report = examine(tmp_path, dns, api, "api", "-e", "demo")
        assert (status, report["cause"]) == (0, None), report
        status, report = examine(tmp_path, dns, api, "apo", "-e", "demo")
        assert (status, report["cause"]["fix"]) == (2, "ask for api"), report
        # Where the resolver listens, it says itself: nobody has to.
        status, report = examine(tmp_path, "", api, "apo", "-e", "demo")
        assert (status, report["cause"]["fix"]) == (2, "ask for api"), report
        assert any(mark["detail"] == f"the resolver answers at {dns}" for mark in report["marks"]), report
    with up(tmp_path, "--upstream", "none") as (_, dns, api):
        # Without --demo or --bind, this machine's own queries belong to no environment.
        status, report = examine(tmp_path, dns, api, "api", "-e", "demo")
        assert (status, report["cause"]["check"]) == (1, "client"), report
        assert "--bind 127.0.0.1/32=ENVIRONMENT" in report["cause"]["fix"]
        # That is no fault of a name of the rest of the world.
        status, report = examine(tmp_path, dns, api, "nothing.example", "-e", "demo")
        assert (status, report["cause"]) == (0, None), report
        assert any(mark["check"] == "name" and "upstreams" in mark["detail"] for mark in report["marks"]), report
        # What nobody has looked at is not well.
        status, report = examine(tmp_path, dns, api, "--netns", "nothing")
        assert (status, report["cause"]["check"]) == (2, "attachment"), report
        status, report = examine(tmp_path, dns, api, "--from", "a1.api", "--to", "b1.api", "-e", "demo")
        assert (status, any(mark["check"] == "connection" for mark in report["marks"])) != (0, False), report
        token = (tmp_path / "admin.token").rename(tmp_path / "elsewhere")
        status, report = examine(tmp_path, dns, api, "nothing.example", "-e", "demo")
        assert (status, report["cause"]["check"]) == (1, "control plane"), report
        token.rename(tmp_path / "admin.token")
    status, report = examine(tmp_path, dns, api)
    assert (status, report["cause"]["check"]) == (2, "control plane"), report
    assert report["cause"]["detail"].count("the admin API at") == 1, report
    assert any(mark["check"] == "resolver" and mark["standing"] == "broken" for mark in report["marks"]), report


def test_a_machine_without_anything_of_ours_says_where_it_looked(tmp_path: Path) -> None:
    flags = ("--state-dir", str(tmp_path), "--agent-dir", "", "--ops-listen", "", "--api", "http://127.0.0.1:1")
    status, out, _ = run_here("doctor", *flags)
    assert status == 2
    assert out.startswith("✗ agent: nothing of Interlock was found on this machine: ")
    assert "fix: run it on a host of the mesh or where the control plane runs" in out


@pytest.mark.parametrize(
    "arguments",
    [("api",), ("--to", "a1.api"), ("api", "--netns", "x", "-e", "demo"), ("--port", "0")],
    ids=" ".join,
)
def test_what_cannot_be_asked_is_refused_as_a_bad_setting(arguments: tuple[str, ...]) -> None:
    status, _, errors = run_here("doctor", "--agent-dir", "", *arguments)
    assert status == 78
    assert errors.count("\n") == 1


def test_a_resolver_that_is_silent_where_one_listens_by_default_is_no_fault() -> None:
    (assumed,) = judge_resolver(ResolverFacts("127.0.0.1:1053", None, "refused", is_assumed=True))
    assert (assumed.standing, "--dns-listen" in assumed.fix) == (Standing.UNKNOWN, True)
    (of_up,) = judge_resolver(ResolverFacts("127.0.0.1:21053", None, "refused", is_up=True))
    assert (of_up.standing, "systemctl" in of_up.fix) == (Standing.BROKEN, False)


def test_some_dead_upstreams_are_a_warning() -> None:
    marks = list(judge_upstreams([UpstreamFacts("192.0.2.1:53"), UpstreamFacts("192.0.2.2:53", "silent")]))
    assert [(mark.standing, "192.0.2.2:53: silent" in mark.detail) for mark in marks] == [(Standing.WARNING, True)]
    assert "dig @192.0.2.2" in marks[0].fix
    assert list(judge_upstreams([])) == []


def test_health_and_metrics_of_a_resolver_are_read() -> None:
    text = "[+]resolver ok\n[+]clock ok: it is 9 s ahead\n[-]names not loaded yet\n"
    assert read_readiness(text) == {
        "resolver": (True, ""),
        "clock": (True, "it is 9 s ahead"),
        "names": (False, "not loaded yet"),
    }
    names = ("interlock_upstream_queries_total", "interlock_upstream_failures_total")
    lines = "".join(f'{name}{{upstream="192.0.2.1:53"}} 4.0\n' for name in names)
    assert read_upstreams(lines) == ["192.0.2.1:53"]
