"""`interlock doctor` while agents, hosts and the store fail: the cause is named, and not what follows from it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import redis

from tests.faults.test_identity import copied
from tests.mesh.doctor import deployed, examine, until_named, until_well
from tests.mesh.mesh import Mesh


@pytest.fixture(autouse=True)
def workloads(hosts: Mesh) -> Iterator[None]:
    """An environment with an instance on both hosts, on which all is well before and after each test."""
    nodes = hosts.nodes["h1"], hosts.nodes["h2"]
    with deployed(hosts, "examined", "h1", "h2"):
        until_well(*nodes)
        yield
        for node in nodes:
            node.until_ready()
        until_well(*nodes)


def test_a_dead_agent_is_named_on_its_host_and_on_others(hosts: Mesh) -> None:
    node, other = hosts.nodes["h2"], hosts.nodes["h1"]
    node.agent.kill()
    try:
        here = until_named(node, "agent: the agent of this host does not answer")
        assert (here.status, here.fix.startswith("systemctl restart interlock-agent")) == (2, True)
        there = until_named(other, "host: the agent of host h2 does not run, or cannot do its work")
        assert there.says("tunnel", "ok", "host h2 answers through the tunnel"), there.report
        until_named(hosts, "host h2 at")
    finally:
        node.agent.start()


def test_an_agent_that_hangs_is_named(hosts: Mesh) -> None:
    node = hosts.nodes["h2"]
    os.kill(node.agent.pid, signal.SIGSTOP)
    try:
        until_named(node, "has not answered within")
    finally:
        os.kill(node.agent.pid, signal.SIGCONT)


def test_a_dead_host_is_named_at_once(hosts: Mesh) -> None:
    node, other = hosts.nodes["h2"], hosts.nodes["h1"]
    node.host.unplug()
    try:
        # Its lease lasts some seconds longer than it: that nothing there answers tells it from a blocked port.
        until_named(other, "host: host h2")
        dead = until_named(other, "host: host h2 is dead: its lease has ended", "api", "-e", "examined")
        assert "interlock host forget h2" in dead.fix
        until_named(hosts, "host h2 at")
    finally:
        node.host.plug()


def test_two_agents_with_the_key_of_one_host_are_named(hosts: Mesh) -> None:
    node = hosts.nodes["h1"]
    copy = hosts.boot("copy", node.id)
    try:
        copied(node, copy)
        copy.start()
        named = until_named(node, "identity: another agent claims to be host h1")
        assert copy.endpoint in named.cause
        assert "give it another --host" in named.fix
    finally:
        hosts.remove(copy)


def test_a_store_that_hangs_is_named_on_hosts_and_at_the_control_plane(hosts: Mesh) -> None:
    hosts.store.signal(signal.SIGSTOP)
    try:
        at_plane = until_named(hosts, "store: store unix://", "api", "-e", "examined")
        assert "Timeout" in at_plane.cause or "hangs" in at_plane.cause
        until_named(hosts.nodes["h1"], "store: the control plane is connected, and does not do what needs its store")
        assert examine(hosts.nodes["h1"], "api", "-e", "examined").says("connection", "ok", "connects to on-h2.api")
    finally:
        hosts.store.signal(signal.SIGCONT)


def test_a_full_store_is_named(hosts: Mesh) -> None:
    with redis.Redis(unix_socket_path=str(hosts.store.socket)) as client:
        client.config_set("maxmemory", "1mb")
        try:
            full = until_named(hosts, "store: the store takes no writes: its memory is full")
            assert "give it more" in full.fix
            until_named(
                hosts.nodes["h1"], "store: the control plane is connected, and does not do what needs its store"
            )
        finally:
            client.config_set("maxmemory", "0")
