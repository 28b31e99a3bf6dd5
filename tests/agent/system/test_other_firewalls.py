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
        found = await firewalls.drops()
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "run", None)
            assert await firewalls.drops() == found
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


REST = {
    # rules after which nothing is left to pass
    "policy": "policy drop;",
    "drop": "policy accept; counter drop;",
    "reject": "policy accept; ct state established accept; reject with icmpx admin-prohibited;",
}
HOOKS = {
    # a rule that lets workloads pass, and one that lets others pass
    "forward": ('iifname { "rail*", "interlock0" } accept', 'iifname "docker0" accept'),
    "input": ("udp dport { 53, 67 } accept", "tcp dport 22 accept"),
    "output": ("udp sport 53 accept", "udp sport 67 accept"),
}


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("rest", REST)
def test_what_drops_the_rest_is_found_at_each_hook_and_its_remedy_helps(space: Namespace, hook: str, rest: str) -> None:
    """Also where that is no policy but the last rule, as firewalld has it."""
    firewalls = OtherFirewalls("interlock0", "rail")
    lets_us, lets_others = HOOKS[hook]

    async def main() -> None:
        chain = f"type filter hook {hook} priority 0; {lets_others}; {REST[rest]}".replace("; ", ";\n")
        nft(f"table inet theirs {{\nchain c {{\n{chain}\n}}\n}}\n")
        (sentence,) = await firewalls.drops()
        for remedy in sentence.partition("rules: ")[2].split("; "):
            nft(remedy.removeprefix("nft ").replace("'", '"'))
        assert await firewalls.drops() == []
        nft("delete table inet theirs")
        nft(f"table inet theirs {{\nchain c {{\n{chain}\n}}\n}}\ninsert rule inet theirs c {lets_us}\n")
        assert await firewalls.drops() == []

    run(space, main())


@pytest.mark.parametrize(
    "rules",
    [
        "policy accept; ip6 saddr 2001:db8::1 drop;",  # what it drops has nothing to do with workloads
        "policy drop; accept;",
        'policy drop; iifname "rail*" goto trusted; iifname "interlock0" goto trusted;',  # its owner knows the links
    ],
)
def test_what_drops_no_workloads_packets_is_not_named(space: Namespace, rules: str) -> None:
    async def main() -> list[str]:
        chain = f"type filter hook input priority 0; {rules}".replace("; ", ";\n")
        nft(f"table inet theirs {{\nchain trusted {{\naccept\n}}\nchain c {{\n{chain}\n}}\n}}\n")
        return await OtherFirewalls("interlock0", "rail").drops()

    assert run(space, main()) == []
