"""The host's nameservers: read at the start, and followed afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path

import dns.rcode
import pytest

from interlock.parts import resolv_conf
from interlock.parts.resolv_conf import ResolvConf
from resolver.forward.forwarder import Forwarder
from resolver.forward.upstream import Routes
from resolver.wire.messages import ErrorCode
from tests import worlds
from tests.resolver.forward.shell import Client, world
from tests.resolver.forward.test_forwarder import extended
from tests.resolver.messages import error_text
from tests.resolver.servers import serving
from tests.waiting import cancel, until


def hosts(routes: Routes | None) -> list[str] | None:
    return None if routes is None else sorted(upstream.host for upstream in routes.all)


@pytest.fixture
def file(tmp_path: Path) -> ResolvConf:
    return ResolvConf(tmp_path / "resolv.conf", frozenset({"fd12::10"}))


def test_only_what_is_new_is_told(file: ResolvConf) -> None:
    file.path.write_text("nameserver 192.0.2.1\n")
    assert hosts(file.read()) == ["192.0.2.1"]
    assert file.read() is None
    file.path.write_text("# the same\nnameserver 192.0.2.1\nsearch example\n")
    assert file.read() is None
    file.path.write_text("nameserver 192.0.2.2\nnameserver 192.0.2.1\n")
    assert hosts(file.read()) == ["192.0.2.1", "192.0.2.2"]


def test_a_file_that_takes_its_place_is_read(file: ResolvConf) -> None:
    file.path.write_text("nameserver 192.0.2.1\n")
    file.read()
    other = file.path.with_suffix(".new")
    other.write_text("nameserver 192.0.2.2\n")
    other.rename(file.path)
    assert hosts(file.read()) == ["192.0.2.2"]


@pytest.mark.parametrize("content", [None, "", "nameserver fd12::10\n", "search example\n", "\0\xff"])
def test_without_nameservers_the_reason_is_told_once(
    file: ResolvConf, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    if content is not None:
        file.path.write_text(content)
    routes = file.read()
    assert routes
    assert not routes.all
    assert str(file.path) in routes.missing
    assert ("cannot be read: No such file" in routes.missing) == (content is None)
    assert file.read() is None
    assert [record.getMessage() for record in caplog.records] == ["no_upstreams"]
    file.path.write_text("nameserver 192.0.2.1\n")
    assert hosts(file.read()) == ["192.0.2.1"]


@pytest.mark.parametrize("content", [None, "", "nameserver fd12::10\n"])
def test_nameservers_stay_when_the_file_no_longer_names_any(
    file: ResolvConf, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    file.path.write_text("nameserver 192.0.2.1\n")
    file.read()
    if content is None:
        file.path.unlink()
    else:
        file.path.write_text(content)
    assert file.read() is None
    (record,) = caplog.records
    assert vars(record)["still_used"] == ["192.0.2.1:53"]
    file.path.write_text("nameserver 192.0.2.1\n")
    assert file.read() is None  # they were never given up


async def test_a_client_is_told_why_until_the_file_comes(file: ResolvConf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolv_conf, "INTERVAL", 0.01)
    forwarder = Forwarder(file.read() or Routes(()), worlds.PLATFORM)
    async with serving(*world(), forwarder=forwarder) as resolver:
        client = Client(resolver, forwarder)
        following = asyncio.create_task(file.follow(forwarder, lambda: None))
        for name in ("www.example.", "www.example.", "shop.railway.internal."):
            answer = await client.ask(name)
            assert (answer.rcode(), extended(answer)) == (dns.rcode.SERVFAIL, [ErrorCode.NOT_READY])
            assert "there is no upstream resolver" in error_text(answer)
        file.path.write_text("nameserver 127.0.0.1\n")
        await until(lambda: forwarder.pool.health)
        await client.ask("www.example.")
        assert forwarder.counts.misses == 1  # it was asked, whoever listens on port 53 here
        await cancel(following)
