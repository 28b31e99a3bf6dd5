"""Hosts: which values are refused, and which hosts have a member of an environment."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from tests.worlds import build, public_key
from zones.edits import DeleteInstance, DeletePeer, PutInstance, PutPeer, PutService, apply
from zones.errors import Invalid
from zones.hosts import Host, check_endpoint, decode_host, encode_host, hosts_of
from zones.keys import PublicKey

KEY = public_key(1)
HOST = Host("h1", "192.0.2.1:51820", KEY)


# Hosts with a member


def test_the_hosts_of_an_environment() -> None:
    environment = build("production", 1, PutService("api"), PutService("db"))
    assert hosts_of(environment) == frozenset()
    environment = apply(
        environment,
        [
            PutInstance("api", "a1", host="h1"),
            PutInstance("api", "a2", host="h1"),
            PutInstance("api", "a3"),
            PutInstance("db", "d1", host="h2"),
            PutPeer("laptop", KEY, "h3"),
        ],
        0,
    )
    assert hosts_of(environment) == {"h1", "h2", "h3"}
    environment = apply(environment, [DeleteInstance("api", "a1"), DeletePeer("laptop")], 0)
    assert hosts_of(environment) == {"h1", "h2"}


# Endpoints

ENDPOINTS = {
    "192.0.2.1:51820": "",
    "192.0.2.1:1": "",
    "[2001:db8::1]:65535": "",
    "[fd00::1]:51820": "",
    "127.0.0.1:51820": "",
    "": "write ADDRESS:PORT",
    "192.0.2.1": "write ADDRESS:PORT",
    "192.0.2.1:0": "write ADDRESS:PORT",
    "192.0.2.1:051820": "write ADDRESS:PORT",
    "192.0.2.1:65536": "write ADDRESS:PORT",
    "192.0.2.1:0080": "write ADDRESS:PORT",
    "192.0.2.1:٣": "write ADDRESS:PORT",
    "192.0.2.1:51820\n": "write ADDRESS:PORT",
    "192.0.2.001:51820": "write ADDRESS:PORT",
    "host.example:51820": "write ADDRESS:PORT",
    "2001:db8::1:51820": "write ADDRESS:PORT",
    "[192.0.2.1]:51820": "write ADDRESS:PORT",
    "[2001:db8::1]": "write ADDRESS:PORT",
    "[2001:DB8::1]:51820": "as 2001:db8::1",
    "[2001:db8:0::1]:51820": "as 2001:db8::1",
    "0.0.0.0:51820": "no address that other hosts could reach",
    "[::]:51820": "no address that other hosts could reach",
    "224.0.0.1:51820": "no address that other hosts could reach",
    "[ff02::1]:51820": "no address that other hosts could reach",
    "[fe80::1%eth0]:51820": "no address that other hosts could reach",
}


@pytest.mark.parametrize(("text", "fragment"), ENDPOINTS.items())
def test_endpoints(text: str, fragment: str) -> None:
    if not fragment:
        check_endpoint(text)
        return
    with pytest.raises(Invalid, match=fragment) as refused:
        check_endpoint(text)
    assert refused.value.field == "endpoint"


# Hosts

BAD_HOSTS: dict[str, tuple[dict[str, Any], str, str]] = {
    # what: (fields, field, fragment of the message)
    "id": ({"id": "H1"}, "host", "cannot be a host id"),
    "endpoint": ({"endpoint": "h1:51820"}, "endpoint", "not an endpoint"),
    "key": ({"public_key": PublicKey("x")}, "public_key", "not a public key"),
    "region": ({"region": "eu.west"}, "region", "cannot be a region"),
    "next key": ({"next_public_key": PublicKey("")}, "next_public_key", "not a public key"),
    "next key that is the one in use": ({"next_public_key": KEY}, "next_public_key", "the one in use"),
}


@pytest.mark.parametrize("what", BAD_HOSTS)
def test_what_cannot_be_a_host(what: str) -> None:
    fields, field, fragment = BAD_HOSTS[what]
    with pytest.raises(Invalid, match=fragment) as refused:
        replace(HOST, **fields)
    assert refused.value.field == field


def test_a_document_is_plain_json() -> None:
    assert json.loads(encode_host(HOST)) == {"id": "h1", "endpoint": "192.0.2.1:51820", "public_key": KEY}
    whole = Host("h1", "[2001:db8::1]:1", KEY, region="eu", draining=True, next_public_key=public_key(2))
    assert decode_host(encode_host(whole)) == whole
    assert decode_host(encode_host(HOST)) == HOST


BAD_DOCUMENTS = {
    b"": "not a document of a host",
    b"{}": "missing required field `id`",
    b"\xff": "not a document of a host",
    b'{"id":"\xff"}': "not a document of a host",
    encode_host(HOST).replace(b'"h1"', b'"H1"'): "cannot be a host id",
    encode_host(HOST)[:-1] + b',"color":"red"}': "unknown field `color`",
}


@pytest.mark.parametrize(("read", "fragment"), BAD_DOCUMENTS.items())
def test_a_bad_document_is_refused_with_its_reason(read: bytes, fragment: str) -> None:
    with pytest.raises(Invalid, match=fragment):
        decode_host(read)
