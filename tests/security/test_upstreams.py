"""An upstream that lies: it is not heard about our names and special ones, nor about the platform's addresses."""

from __future__ import annotations

import dns.rcode
import pytest

from tests.resolver.forward.liar import lying, says
from tests.resolver.forward.shell import forwarding

CHOSEN = "2001:db8::666"  # of its own choice, for a client that trusts the name

CHAINS = {
    "our own name": ("@ 300 IN CNAME api.railway.internal.", "api.railway.internal. 300 IN AAAA " + CHOSEN),
    "a name that we do not have": (
        "@ 300 IN CNAME nobody.railway.internal.", "nobody.railway.internal. 300 IN AAAA " + CHOSEN,
    ),
    "localhost": ("@ 300 IN CNAME localhost.", "localhost. 300 IN AAAA " + CHOSEN),
    "a name of somebody's network": ("@ 300 IN CNAME nas.home.arpa.", "nas.home.arpa. 300 IN AAAA " + CHOSEN),
    "by way of another": (
        "@ 300 IN CNAME a.liar.example.",
        "a.liar.example. 300 IN CNAME api.railway.internal.",
        "api.railway.internal. 300 IN AAAA " + CHOSEN,
    ),
    "DNAME": ("liar.example. 300 IN DNAME railway.internal.", "evil.railway.internal. 300 IN AAAA " + CHOSEN),
    "DNAME with its CNAME": (
        "liar.example. 300 IN DNAME railway.internal.",
        "@ 300 IN CNAME evil.railway.internal.",
        "evil.railway.internal. 300 IN AAAA " + CHOSEN,
    ),
}  # fmt: skip


@pytest.mark.parametrize("records", CHAINS.values(), ids=CHAINS.keys())
@pytest.mark.parametrize("dnssec_ok", [False, True])
async def test_a_chain_ends_at_a_name_that_is_answered_here(records: tuple[str, ...], dnssec_ok: bool) -> None:
    async with lying(always=says(*records)) as liar, forwarding(liar) as client:
        for _ in range(2):  # asked, then from the cache
            answer = await client.ask("evil.liar.example.", "AAAA", dnssec_ok=dnssec_ok)
            assert answer.rcode() == dns.rcode.SERVFAIL
            assert CHOSEN not in answer.to_text()
        # Nor is it kept for the name itself, which has our own data or none.
        own = await client.ask("api.railway.internal.", "AAAA")
        assert own.rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    ("rtype", "lie", "truth"),
    [
        ("AAAA", "@ 300 IN AAAA fd12:5b1e:90c4:1::1", "@ 300 IN AAAA 2001:db8::1"),
        ("HTTPS", "@ 300 IN HTTPS 1 . ipv6hint=fd12:5b1e:90c4:1::1", "@ 300 IN HTTPS 1 . ipv6hint=2001:db8::1"),
    ],
)
async def test_the_platforms_addresses_come_from_here_alone(rtype: str, lie: str, truth: str) -> None:
    async with lying(always=says(lie, truth)) as liar, forwarding(liar) as client:
        answer = await client.ask("evil.liar.example.", rtype)
        assert "fd12:" not in answer.to_text()
        assert "2001:db8::1" in answer.to_text()
    async with lying(always=says(lie)) as liar, forwarding(liar) as client:
        answer = await client.ask("evil.liar.example.", rtype)
        assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])
