"""The other firewalls of a host, in a real kernel: what they drop is found, by a process only after a change."""

from __future__ import annotations

import subprocess

import pytest

from agent.system.other_firewalls import OtherFirewalls
from tests.agent.inside import run, why_not
from tests.namespaces import Namespace

DROPS = "table ip6 theirs { chain FORWARD { type filter hook forward priority 0; policy drop; }; }"

pytestmark = pytest.mark.skipif(bool(why_not("nft")), reason=why_not("nft"))


def nft(script: str) -> None:
    subprocess.run(["nft", "--file", "-"], input=script, text=True, check=True)


def test_a_chain_that_drops_is_named_until_its_owner_lets_members_pass(
    space: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    firewalls = OtherFirewalls("interlock0", "rail")

    async def look_again() -> list[str]:
        """What is found, which must be the same without a process as long as nobody changes anything."""
        found = await firewalls.forward_drops()
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "run", None)
            assert await firewalls.forward_drops() == found
        return found

    async def main() -> None:
        assert await look_again() == []
        nft(DROPS)
        (sentence,) = await look_again()
        for name in ("rail*", "interlock0"):
            assert f"nft insert rule ip6 theirs FORWARD iifname '{name}' accept" in sentence
        nft("insert rule ip6 theirs FORWARD iifname rail* accept")
        (sentence,) = await look_again()
        assert "'rail*'" not in sentence
        nft("insert rule ip6 theirs FORWARD iifname interlock0 accept")
        assert await look_again() == []
        nft("flush chain ip6 theirs FORWARD")
        assert len(await look_again()) == 1
        nft("delete table ip6 theirs")
        assert await look_again() == []

    run(space, main())
