from __future__ import annotations

import pytest

from support.endpoints import Endpoint

READ = {
    "127.0.0.1:53": Endpoint("127.0.0.1", 53),
    "[::1]:53": Endpoint("::1", 53),
    "0.0.0.0:0": Endpoint("0.0.0.0", 0),
    "[::]:65535": Endpoint("::", 65535),
    "[fe80::1%eth0]:53": Endpoint("fe80::1%eth0", 53),
}

REFUSED = {
    "": "is not ADDRESS:PORT",
    "53": "is not ADDRESS:PORT",
    "127.0.0.1": "is not ADDRESS:PORT",
    "127.0.0.1:": "is not ADDRESS:PORT",
    "127.0.0.1:65536": "is not ADDRESS:PORT",
    "127.0.0.1:-1": "is not ADDRESS:PORT",
    "127.0.0.1:٥٣": "is not ADDRESS:PORT",
    "127.0.0.1:53\n": "is not ADDRESS:PORT",
    "::1:53": "is not ADDRESS:PORT",
    "[::1]": "is not ADDRESS:PORT",
    ":53": "no IP address before the port",
    "localhost:53": "no IP address before the port",
    "127.0.0.01:53": "no IP address before the port",
    "[127.0.0.1:53": "no IP address before the port",
    "[127.0.0.1]:53": "brackets around an IPv6 address, and only there",
}


@pytest.mark.parametrize("text", READ)
def test_an_endpoint_is_written_as_it_is_read(text: str) -> None:
    assert Endpoint.parse(text) == READ[text]
    assert str(READ[text]) == text


@pytest.mark.parametrize("text", ["[2001:DB8::1]:51820", "[2001:db8:0::1]:51820", "[2001:db8::1]:00080"])
def test_an_address_that_is_read_is_in_its_canonical_form(text: str) -> None:
    assert Endpoint.parse(text).host == "2001:db8::1"


@pytest.mark.parametrize(("text", "fragment"), REFUSED.items())
def test_anything_else_is_refused(text: str, fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        Endpoint.parse(text)
