"""What wireguard-go answers, read: as if anew each time, also of a peer of which only what has changed is decoded."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from agent.system.wireguard.userspace import MANY, TunnelReader
from tests.agent.worlds import address
from zones.addresses import Address

FIRST = range(1, MANY + 500)
ANSWERS = {
    "one more": [*FIRST, MANY + 700],
    "one less": [one for one in FIRST if one != 7],
    "one in place of another": [*FIRST[1:], MANY + 700],
    "the same in another order": list(reversed(FIRST)),
    "few": [1, 2, 3],
    "none": [],
}


def answer(numbers: Iterable[int], more: str = "") -> str:
    """What ``get=1`` gives for a device with one peer."""
    allowed = "".join(f"allowed_ip={address(1, one)}/128\n" for one in numbers)
    return f"listen_port=51820\npublic_key={bytes(32).hex()[:-2]}01\nrx_bytes=7\n{allowed}{more}errno=0\n\n"


@pytest.mark.parametrize("name", ANSWERS)
def test_a_peer_with_many_addresses_is_read_as_if_anew(name: str) -> None:
    reader = TunnelReader()
    for numbers in (FIRST, ANSWERS[name], FIRST):
        assert reader.read(answer(numbers)) == TunnelReader().read(answer(numbers))


def test_of_many_addresses_those_alone_are_decoded_that_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, decoded = TunnelReader(), []
    parse = Address.parse

    def counted(text: str) -> Address:
        decoded.append(text)
        return parse(text)

    reader.read(answer(FIRST))
    monkeypatch.setattr(Address, "parse", counted)
    (peer,) = reader.read(answer([*FIRST[1:], MANY + 700])).peers.values()
    assert decoded == [str(address(1, MANY + 700)), str(address(1, 1))]
    assert address(1, MANY + 700) in peer.allowed_ips


def test_a_network_beside_many_addresses_is_seen_and_its_end_too() -> None:
    reader, foreign = TunnelReader(), "allowed_ip=fd12::/16\n"
    for more in ("", foreign, ""):
        (peer,) = reader.read(answer(FIRST, more)).peers.values()
        assert peer.is_foreign == bool(more)
        assert {address(1, one) for one in FIRST} <= peer.allowed_ips
