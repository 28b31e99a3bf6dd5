"""Readiness: which checks a process has, and what makes each of them fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from admin.resources.operations import Probe
from interlock.observe.readiness import (
    Readiness,
    demo_loaded,
    documents_used,
    host_ready,
    snapshot_kept,
    source_answers,
    store_answers,
    store_connected,
    zones_loaded,
)
from interlock.parts.resolver import ResolverParts
from interlock.parts.store_probe import StoreProbe
from interlock.process.supervise import Supervisor
from interlock.programs.demo import DEMO, DemoLoading
from interlock.settings.sources import read_settings
from interlock.settings.table import RESOLVER
from store.store import Store
from tests.waiting import cancel, until
from watcher import keeper as keeping
from watcher.watcher import Watcher
from zones.names import EnvironmentId

STORE = "unix:///nowhere"


def test_a_part_is_ready_while_it_serves() -> None:
    supervisor = Supervisor([], restarts={"watcher": 2, "admin": 0}, down={"watcher"})
    assert Readiness(supervisor)() == {
        "watcher": Probe(False, "it has crashed and is about to be started again"),
        "admin": Probe(True),
    }
    supervisor.down.clear()
    assert Readiness(supervisor)()["watcher"].ok


async def test_a_snapshot_that_cannot_be_written_is_noted_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "EVERY", 0.01)
    monkeypatch.setattr(keeping, "SHARE", 0.0)
    directory = tmp_path / "state"
    settings = read_settings({"upstream": ["none"], "state_dir": str(directory)}, {})
    watcher = ResolverParts.of(RESOLVER, settings, Store(STORE), []).watcher
    assert isinstance(watcher, Watcher)
    assert watcher.snapshots
    supervisor = Supervisor([], restarts={"snapshot": 0})
    readiness = Readiness(supervisor, *snapshot_kept(watcher))
    assert readiness() == {"snapshot": Probe(True)}
    watcher._note_loaded()
    directory.write_text("in the way")
    keeping_it = asyncio.create_task(watcher.snapshots.run(watcher))
    await until(lambda: readiness()["snapshot"].note)
    assert readiness()["snapshot"].ok
    assert readiness()["snapshot"].note in (
        "the last attempt to write or read it has failed: Not a directory; there is none",
        "the last attempt to write or read it has failed: File exists; there is none",
    )
    directory.unlink()
    await until(lambda: not readiness()["snapshot"].note)
    await cancel(keeping_it)
    supervisor.down.add("snapshot")
    assert not readiness()["snapshot"].ok


def test_a_resolver_is_ready_once_it_has_loaded_and_stays_ready() -> None:
    resolver = ResolverParts.of(RESOLVER, read_settings({"upstream": ["none"]}, {}), Store(STORE), [])
    readiness = Readiness(Supervisor([]), zones_loaded(resolver))
    assert readiness() == {"names": Probe(False, "not loaded yet: does the store answer?")}
    resolver.resolver.loaded()
    assert not resolver.watcher.connected
    assert readiness()["names"].ok


def test_a_resolver_that_waits_for_the_demo_is_not_ready_when_the_store_is_loaded() -> None:
    settings, demo = read_settings({"upstream": ["none"]}, {}), DemoLoading()
    dns = ResolverParts.of(RESOLVER, settings, Store(STORE), [], awaited=DEMO)
    readiness = Readiness(Supervisor([]), zones_loaded(dns), demo_loaded(demo))
    dns.watcher.publisher.loaded()
    assert dns.loaded.is_set()
    assert not readiness()["names"].ok
    assert readiness()["demo"] == Probe(False, "the demo is not loaded yet")
    dns.complete()
    demo.obstacle = ""
    assert all(probe.ok for probe in readiness().values())


def test_a_resolver_with_an_agent_names_the_agent() -> None:
    resolver = ResolverParts.of(
        "resolver", read_settings({"agent_dir": "/nowhere", "upstream": ["none"]}, {}), None, []
    )
    (probe,) = Readiness(Supervisor([]), zones_loaded(resolver))().values()
    assert probe == Probe(False, "not loaded yet: does the agent of this host answer?")


def test_a_writer_is_ready_while_its_watcher_is_connected() -> None:
    resolver = ResolverParts.of(RESOLVER, read_settings({"upstream": ["none"]}, {}), Store(STORE), [])
    readiness = Readiness(Supervisor([]), store_connected(resolver.watcher))
    assert readiness() == {"store_connection": Probe(False, "the store does not answer")}
    resolver.watcher.connected = True
    assert readiness()["store_connection"].ok


def test_a_writer_without_a_watcher_is_ready_while_its_probe_succeeds() -> None:
    probe = StoreProbe(Store(STORE))
    readiness = Readiness(Supervisor([]), store_answers(probe))
    assert readiness() == {"store_connection": Probe(False, "the store has not been asked yet")}
    probe.reason = ""
    assert readiness()["store_connection"].ok


def test_an_agent_is_ready_while_workloads_can_be_attached() -> None:
    operations = SimpleNamespace(obstacles="no resolver is connected", notes="")
    readiness = Readiness(Supervisor([]), host_ready(operations))
    assert readiness() == {"host": Probe(False, "no resolver is connected")}
    operations.obstacles = ""
    assert readiness()["host"].ok


def test_a_resolver_whose_store_is_away_is_ready_and_says_so() -> None:
    watcher = ResolverParts.of(RESOLVER, read_settings({"upstream": ["none"]}, {}), Store(STORE), []).watcher
    assert isinstance(watcher, Watcher)
    readiness = Readiness(Supervisor([]), source_answers(watcher))
    watcher._note_lost("connection refused")
    note = "the store does not answer, and what was known last is served: connection refused"
    assert readiness() == {"store_connection": Probe(True, note=note)}
    watcher._note_contact()
    assert readiness() == {"store_connection": Probe(True)}


def test_a_resolver_whose_agent_is_away_says_so(tmp_path: Path) -> None:
    settings = read_settings({"upstream": ["none"], "agent_dir": str(tmp_path)}, {})
    follower = ResolverParts.of(RESOLVER, settings, None, []).watcher
    [(name, probe)] = Readiness(Supervisor([]), source_answers(follower))().items()
    assert (name, probe.ok) == ("agent_connection", True)
    assert probe.note == "the agent of this host does not answer, and what was known last is served: not asked yet"


def test_environments_whose_newest_document_is_not_used_are_named() -> None:
    """In one line, however many they are and whatever their ids."""
    watcher = ResolverParts.of(RESOLVER, read_settings({"upstream": ["none"]}, {}), Store(STORE), []).watcher
    assert isinstance(watcher, Watcher)
    readiness = Readiness(Supervisor([]), documents_used(watcher))
    assert readiness() == {"documents": Probe(True)}
    for id_ in ("a", "b\nb", "c", "d" * 1_000_000, "e"):
        watcher._served.quarantine(EnvironmentId(id_), "it is garbage")
    note = readiness()["documents"].note
    assert readiness()["documents"].ok
    assert note.endswith(": a: it is garbage; b\\nb: it is garbage; c: it is garbage; and 2 more")
    assert note.startswith("environments whose newest document is not used")
