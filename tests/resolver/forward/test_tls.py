"""DNS over TLS (RFC 7858) to an upstream with a certificate of a made-up authority."""

from __future__ import annotations

import ssl

import dns.flags
import dns.rcode
import pytest
import trustme

from resolver.forward.upstream import Routes
from resolver.wire.messages import Transport
from tests.resolver.forward.liar import LARGE, Liar, lying, small
from tests.resolver.forward.shell import forwarding
from tests.resolver.forward.test_answers import ADDRESS, data, rdata_of
from tests.resolver.messages import error_text

NAME = "dns.example"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def serving(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.mark.parametrize("transport", Transport)
async def test_all_is_asked_over_tls(authority: trustme.CA, trusting: ssl.SSLContext, transport: Transport) -> None:
    async with lying(tls=serving(authority, NAME)) as liar, forwarding(written(liar, NAME), tls=trusting) as client:
        assert rdata_of(await client.ask("small", transport=transport)) == ADDRESS
        assert rdata_of(await client.ask("large", transport=Transport.TCP)) == data(LARGE)
        assert {asked.transport for asked in liar.asked} == {Transport.TCP}
        signed = await client.ask("signed", flags=dns.flags.AD)
        assert signed.flags & dns.flags.AD


async def test_an_address_can_be_the_name_of_a_certificate(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    async with lying(tls=serving(authority, "127.0.0.1")) as liar, forwarding(written(liar), tls=trusting) as client:
        assert rdata_of(await client.ask("small")) == ADDRESS


@pytest.mark.parametrize(
    ("names", "is_trusted", "reason"),
    [
        (("other.example",), True, "Hostname mismatch"),
        (("127.0.0.1",), True, "Hostname mismatch"),
        ((NAME,), False, "unable to get local issuer certificate"),
    ],
)
async def test_who_cannot_prove_its_name_is_told_nothing(
    names: tuple[str, ...], is_trusted: bool, reason: str, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    context = trusting if is_trusted else ssl.create_default_context()
    tls = serving(authority, *names)
    async with lying(tls=tls) as liar, forwarding(written(liar, NAME), tls=context) as client:
        answer = await client.ask("small")
        assert answer.rcode() == dns.rcode.SERVFAIL
        assert reason in error_text(answer)
        assert liar.count() == 0


async def test_it_is_never_asked_in_the_clear_instead(trusting: ssl.SSLContext) -> None:
    """No TLS there: not asked, but another that has it is."""
    async with lying() as liar, forwarding(written(liar, NAME), tls=trusting) as client:
        assert (await client.ask("small")).rcode() == dns.rcode.SERVFAIL
        assert liar.count() == 0


async def test_one_that_hangs_in_its_handshake_is_helped_by_another(
    authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    # To a plain TCP server the start of a handshake is half a message: it waits for the rest.
    async with (
        lying() as mute,
        lying(always=small, tls=serving(authority, NAME)) as good,
        forwarding(written(mute, NAME), written(good, NAME), tls=trusting) as client,
    ):
        assert rdata_of(await client.ask("small")) == ADDRESS
        assert mute.count() == 0


async def test_what_is_trusted_by_default_is_what_the_machine_trusts() -> None:
    async with lying() as liar, forwarding(written(liar, NAME)) as client:
        assert (await client.ask("small")).rcode() == dns.rcode.SERVFAIL


def written(liar: Liar, name: str = "") -> str:
    text = f"tls://{liar}" + (f"#{name}" if name else "")
    assert Routes.parse((text,)).all
    return text
