"""Hosts: the machines that instances run on. Each publishes a document that says how other hosts reach it.

A host is no part of an environment: it has its own document, and the documents of environments name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

import msgspec
from msgspec import Struct

from support.endpoints import Endpoint
from zones import names
from zones.errors import Invalid
from zones.keys import PublicKey, check_public_key
from zones.model import Environment


class Host(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A host, as all other hosts know it."""

    id: str
    """Its id, one label."""
    endpoint: str
    """The address and UDP port of its WireGuard device on the underlay, as ADDRESS:PORT."""
    public_key: PublicKey
    """The public key of its WireGuard device."""
    region: str | None = None
    """The region that it is in. None: no region."""
    draining: bool = False
    """Whether it takes no new instances."""
    next_public_key: PublicKey | None = None
    """The key that is about to replace ``public_key``. None: no rotation is going on."""
    behind_nat: bool = False
    """Whether hosts elsewhere cannot begin a handshake with it, because a NAT is between them: it begins them all."""

    def __post_init__(self) -> None:
        names.check_host_id(self.id)
        check_endpoint(self.endpoint)
        check_public_key(self.public_key)
        if self.region is not None:
            names.check_region(self.region)
        if self.next_public_key is not None:
            check_public_key(self.next_public_key, field="next_public_key")
        if self.next_public_key == self.public_key:
            raise Invalid("the next public key is the one in use: make a new pair", field="next_public_key")


@dataclass(frozen=True, slots=True)
class Hosts:
    """All hosts that are registered, as of one moment."""

    revision: int
    """Grows by one with each change of a host; 0 before the first."""
    hosts: Mapping[str, Host]
    """Host id → host."""
    unreadable: Mapping[str, str]
    """Host id → what is wrong with its document; such a host is not among ``hosts``."""
    down: frozenset[str] = frozenset()
    """The hosts that are down: nothing was heard of their agents for longer than the lease and the grace."""


def hosts_of(environment: Environment) -> frozenset[str]:
    """The hosts that have a member of ``environment``: a host of an instance, or the gateway of an external peer."""
    hosts = {each.host for service in environment.services.values() for each in service.instances.values()}
    hosts |= {peer.gateway for peer in environment.peers.values()}
    return frozenset(host for host in hosts if host is not None)


def check_endpoint(text: str) -> None:
    """Raises `Invalid` unless ``text`` is 192.0.2.1:51820 or [2001:db8::1]:51820, in its one canonical form."""
    try:
        endpoint = Endpoint.parse(text)
        if endpoint.port == 0 or not text.endswith(f":{endpoint.port}"):
            raise ValueError("a port that is 0, or is written with zeros before it")
    except ValueError:
        raise Invalid(
            f"{text!r} is not an endpoint: write ADDRESS:PORT, as in 192.0.2.1:51820 or [2001:db8::1]:51820",
            field="endpoint",
        ) from None
    address = ip_address(endpoint.host)
    if address.is_unspecified or address.is_multicast or getattr(address, "scope_id", None):
        raise Invalid(f"{text!r} is no address that other hosts could reach: name one of this host's", field="endpoint")
    if str(endpoint) != text:
        # Endpoints are compared as text, so each has one form only: else two hosts could have the same one unnoticed.
        raise Invalid(f"write the address in {text!r} as {address}", field="endpoint")


def encode_host(host: Host) -> bytes:
    """The document of ``host``. Documents are equal exactly if their hosts are."""
    return _encoder.encode(host)


def decode_host(document: bytes) -> Host:
    """The host that ``document`` holds. Raises `Invalid`, naming the field and the rule."""
    try:
        return _decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # msgspec does not convert the latter
        raise Invalid(f"not a document of a host: {error}") from None


_encoder = msgspec.json.Encoder()
# All hosts are read when one has changed. Hosts are immutable, so each is decoded once for each text of its document.
_decode = lru_cache(maxsize=1 << 13)(msgspec.json.Decoder(Host).decode)
