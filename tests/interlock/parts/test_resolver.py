"""The parts of a resolver: its addresses, its upstreams, and the source of its zones."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.errors import BadSetting
from interlock.parts import listening, resolver
from interlock.parts.resolver import ResolverParts
from interlock.programs.demo import DEMO
from interlock.settings.setting import Raw
from interlock.settings.sources import read_settings
from interlock.settings.table import RESOLVER
from store.store import Store
from support.endpoints import Endpoint
from tests import worlds
from watcher.feed.follower import Follower
from watcher.watcher import Watcher
from zones.addresses import FIRST_PEER_NUMBER, peer_address
from zones.edits import PutService


def built(flags: dict[str, Raw]) -> ResolverParts:
    return ResolverParts.of(RESOLVER, read_settings(flags, {}, program="up"), Store("unix:///nowhere"), [])


def upstreams(flags: dict[str, Raw]) -> set[str]:
    forwarder = built(flags).resolver.forwarder
    return {str(upstream) for upstream in forwarder.pool.health} if forwarder else set()


@pytest.fixture
def resolv_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr(resolver, "RESOLV_CONF", path)
    return path


def test_upstreams_are_the_hosts_unless_others_are_configured(resolv_conf: Path) -> None:
    resolv_conf.write_text("nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch example\n")
    assert upstreams({}) == {"192.0.2.1:53", "[2001:db8::1]:53"}
    assert upstreams({"upstream": ["192.0.2.9:5353", "corp.example=192.0.2.8"]}) == {"192.0.2.9:5353", "192.0.2.8:53"}
    assert upstreams({"upstream": ["none"]}) == set()


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:53", {"127.0.0.53:53"}),
        ("0.0.0.0:53", {"127.0.0.53:53"}),
        ("127.0.0.1:1053", {"127.0.0.1:53", "127.0.0.53:53"}),
    ],
)
def test_it_does_not_forward_to_itself(resolv_conf: Path, listen: str, expected: set[str]) -> None:
    resolv_conf.write_text("nameserver fd12::10\nnameserver 127.0.0.1\nnameserver 127.0.0.53\n")
    assert upstreams({"dns_listen": [listen]}) == expected


def test_the_file_is_followed_only_where_no_upstream_is_configured(resolv_conf: Path) -> None:
    assert "upstreams" in {part.name for part in built({}).parts}
    for configured in ("none", "192.0.2.1"):
        assert "upstreams" not in {part.name for part in built({"upstream": [configured]}).parts}


@pytest.mark.parametrize("suffix", ["railway.internal", "api.Railway.internal", "1.2.1.d.f.ip6.arpa"])
def test_a_route_for_names_of_the_platform_is_refused(suffix: str) -> None:
    with pytest.raises(BadSetting, match="would never be used"):
        built({"upstream": [f"{suffix}=192.0.2.1"]})
    assert upstreams({"upstream": ["corp.internal=192.0.2.1", "d.f.ip6.arpa=192.0.2.2"]})


def test_a_default_address_may_be_missing(
    resolv_conf: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    resolv_conf.write_text("nameserver 192.0.2.1\n")
    monkeypatch.setattr(listening, "has_address", lambda host: ":" not in host)
    assert built({}).resolver._listen == [Endpoint("127.0.0.1", 1053)]
    assert [record.getMessage() for record in caplog.records] == ["address_left_out"]
    asked_for: dict[str, Raw] = {"dns_listen": ["127.0.0.1:1053", "[::1]:1053"]}
    assert len(built(asked_for).resolver._listen) == 2


def test_an_awaited_environment_is_not_served_before_it_has_services(resolv_conf: Path) -> None:
    parts = ResolverParts.of(
        "resolver", read_settings({}, {}, program="up"), Store("unix:///nowhere"), [], awaited=DEMO
    )
    empty = worlds.compiled(worlds.build(DEMO, 0x5B1E90C4))
    full = worlds.compiled(worlds.build(DEMO, 0x5B1E90C4, PutService("api")))
    scopes = parts.resolver._context.scopes
    parts.fan_out.loaded()
    parts.fan_out.publish(empty)
    assert (len(scopes), parts.is_loaded) == (0, False)
    parts.fan_out.publish(full)
    assert (len(scopes), parts.is_loaded) == (1, False)
    parts.fan_out.complete()
    assert parts.is_loaded
    parts.fan_out.publish(empty)  # from now on it is as its owner has it
    assert scopes.scope_of(peer_address(empty.environment.network, FIRST_PEER_NUMBER), bytes(16)).state.zone is empty


def test_an_awaited_environment_that_gets_no_services_is_served_in_the_end(resolv_conf: Path) -> None:
    parts = ResolverParts.of(
        "resolver", read_settings({}, {}, program="up"), Store("unix:///nowhere"), [], awaited=DEMO
    )
    parts.fan_out.loaded()
    parts.fan_out.publish(worlds.compiled(worlds.build(DEMO, 0x5B1E90C4)))
    parts.fan_out.complete()
    assert (len(parts.resolver._context.scopes), parts.is_loaded) == (1, True)


def test_without_a_store_it_follows_the_agent_of_this_host(resolv_conf: Path) -> None:
    settings = read_settings({"agent_dir": "/nowhere/agent"}, {}, program="resolver")
    parts = ResolverParts.of(RESOLVER, settings, None, [])
    assert isinstance(parts.watcher, Follower)
    assert parts.watcher.path == Path("/nowhere/agent/names.sock")
    assert isinstance(built({}).watcher, Watcher)  # though --agent-dir has a default there
