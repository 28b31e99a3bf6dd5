"""Hosts: the machines that instances run on, as each tells all others how it is reached.

A host is no part of an environment: it has a document of its own, and environments name it.
"""

from __future__ import annotations

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
    """A host: ``endpoint`` is where its WireGuard is reached on the underlay, as ADDRESS:PORT.

    ``next_public_key`` is the key that a rotation is about to put in the place of ``public_key``. A ``draining`` host
    takes nothing new.
    """

    id: str
    endpoint: str
    public_key: PublicKey
    region: str | None = None
    draining: bool = False
    next_public_key: PublicKey | None = None

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


def hosts_of(environment: Environment) -> frozenset[str]:
    """The hosts that have a member of ``environment``: an instance, or an external peer whose gateway they are."""
    instances = (each.host for service in environment.services.values() for each in service.instances.values())
    gateways = (peer.gateway for peer in environment.peers.values())
    return frozenset(host for host in (*instances, *gateways) if host is not None)


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
        # One endpoint, one text: else two hosts could have one and each not know.
        raise Invalid(f"write the address in {text!r} as {address}", field="endpoint")


def encode_host(host: Host) -> bytes:
    """The document of ``host``: equal exactly for equal hosts."""
    return _encoder.encode(host)


def decode_host(document: bytes) -> Host:
    """The host that ``document`` holds. Raises `Invalid`, naming the field and the rule."""
    try:
        return _decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # msgspec lets the latter through
        raise Invalid(f"not a document of a host: {error}") from None


_encoder = msgspec.json.Encoder()
# All hosts are read whenever one has changed. They are immutable, so one object serves until its document changes.
_decode = lru_cache(maxsize=1 << 13)(msgspec.json.Decoder(Host).decode)
