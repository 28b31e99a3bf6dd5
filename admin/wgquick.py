"""What an external peer is set up with: the file that ``wg-quick`` and the WireGuard apps read. Text only.

It lacks the peer's private key, which is nobody's but the peer's own: a placeholder stands where it goes.
"""

from __future__ import annotations

import re
import shlex
from typing import Literal, assert_never

from zones.addresses import resolver_address
from zones.hosts import Host
from zones.model import Environment
from zones.names import Name

PLACEHOLDER = "<the private key that belongs to this peer's public key>"

MTU = 1420  # octets; a path of 1,500 less what WireGuard adds over IPv6 (40 + 8 + 32), the most that it ever adds
KEEPALIVE = 25  # seconds; a NAT may forget a flow after 30, and nobody could call the peer any more

# The name under which both resolvconfs, openresolv's and Debian's, put a name server before those of other interfaces,
# however this one is called. Without it the first to be asked is one who says that there is no such name.
_RESOLVCONF = "tun0.%i"

_KEY_LINE = re.compile(r"^PrivateKey = .*$", re.MULTILINE)

Form = Literal["wg-quick", "app"]


def write_config(environment: Environment, id_: str, gateway: Host, zone: Name, form: Form = "wg-quick") -> str:
    """The file for the peer ``id_`` of ``environment``, whose way in is ``gateway``.

    ``form`` says who is to read it: ``wg-quick``, which can run commands, or an app, which knows DNS servers only.
    """
    lines = [
        "[Interface]",
        f"PrivateKey = {PLACEHOLDER}",
        f"Address = {environment.peers[id_].address}/128",
        f"MTU = {MTU}",
        *_set_up_names(form, str(resolver_address(environment.network)), str(zone).removesuffix(".")),
        "",
        "[Peer]",
        f"PublicKey = {gateway.public_key}",
        f"Endpoint = {gateway.endpoint}",
        f"AllowedIPs = {environment.network}",
        f"PersistentKeepalive = {KEEPALIVE}",
    ]
    if form == "wg-quick":  # and not for apps: it would only make a larger QR code
        lines.insert(0, f"# {id_}, a peer of the environment {environment.id}, by way of the host {gateway.id}")
    return "".join(f"{line}\n" for line in lines)


def with_private_key(config: str, key: str) -> str:
    """``config`` with the private ``key`` in its place. Raises ``ValueError`` where it has no such place."""
    whole, places = _KEY_LINE.subn(f"PrivateKey = {key}", config)
    if places != 1:
        raise ValueError("this is no configuration of a peer: it has no place for a private key")
    return whole


def _set_up_names(form: Form, resolver: str, zone: str) -> list[str]:
    match form:
        case "app":
            return [f"DNS = {resolver}, {zone}"]
        case "wg-quick":
            return _split_dns(resolver, zone)
        case unreachable:
            assert_never(unreachable)


def _split_dns(resolver: str, zone: str) -> list[str]:
    # wg-quick's own DNS lines would send all questions of the machine through the tunnel. systemd-resolved can send
    # just those for the zone. A resolvconf can at least keep the machine's own servers as the next ones to be asked.
    # Where there is neither, the tunnel still comes up.
    by_resolved = f"resolvectl dns %i {resolver} 2>/dev/null && resolvectl domain %i {shlex.quote('~' + zone)}"
    lines = shlex.quote(rf"nameserver {resolver}\nsearch {zone}\n")
    by_resolvconf = f"printf {lines} | resolvconf -a {_RESOLVCONF}"
    warning = shlex.quote(f"no resolvectl, no resolvconf: for names under {zone}, ask {resolver}")
    return [
        f"PostUp = {by_resolved} || {by_resolvconf} || echo {warning} >&2",
        f"PostDown = resolvconf -d {_RESOLVCONF} 2>/dev/null || true",
    ]
