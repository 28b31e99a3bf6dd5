"""The WireGuard configuration of an external peer, as ``wg-quick`` and the WireGuard apps read it. Text only, no I/O.

The control plane does not have the peer's private key, so a placeholder stands in its place.
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
KEEPALIVE = 25  # seconds; a NAT may drop a flow after 30, and then no packet would reach the peer

# Both implementations of resolvconf, openresolv's and Debian's, put the name servers of an interface with this name
# before those of other interfaces, whatever the interface is really called. Otherwise the machine's own name server
# would come first and answer NXDOMAIN for the zone.
_RESOLVCONF = "tun0.%i"

_KEY_LINE = re.compile(r"^PrivateKey = .*$", re.MULTILINE)

Form = Literal["wg-quick", "app"]


def write_config(environment: Environment, id_: str, gateway: Host, zone: Name, form: Form = "wg-quick") -> str:
    """The configuration of the peer ``id_`` of ``environment``, whose gateway is ``gateway``.

    ``form`` is the program that reads it: ``wg-quick``, which can run commands, or an app, which can only set DNS
    servers and search domains.
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
    if form == "wg-quick":  # not for an app: the comment would only make the QR code larger
        lines.insert(0, f"# {id_}, a peer of the environment {environment.id}, by way of the host {gateway.id}")
    return "".join(f"{line}\n" for line in lines)


def with_private_key(config: str, key: str) -> str:
    """``config`` with the private ``key`` in place of the placeholder. Raises ``ValueError`` if it has none."""
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
    # wg-quick's own DNS lines would send all DNS queries of the machine through the tunnel. systemd-resolved can send
    # only those for the zone. resolvconf can at least keep the machine's own name servers as the next ones to ask. On a
    # machine that has neither, the tunnel still comes up.
    by_resolved = f"resolvectl dns %i {resolver} 2>/dev/null && resolvectl domain %i {shlex.quote('~' + zone)}"
    lines = shlex.quote(rf"nameserver {resolver}\nsearch {zone}\n")
    by_resolvconf = f"printf {lines} | resolvconf -a {_RESOLVCONF}"
    warning = shlex.quote(f"no resolvectl, no resolvconf: for names under {zone}, ask {resolver}")
    return [
        f"PostUp = {by_resolved} || {by_resolvconf} || echo {warning} >&2",
        f"PostDown = resolvconf -d {_RESOLVCONF} 2>/dev/null || true",
    ]
