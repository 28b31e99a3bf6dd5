from __future__ import annotations

import errno
import os

import pytest

from support.listening import ListenError

REASONS = {
    errno.EADDRINUSE: (
        ": another server listens there; stop it or choose another --dns-listen",
        ": another server listens there; stop it or choose another address",
    ),
    errno.EACCES: (
        ": a port below 1024 needs CAP_NET_BIND_SERVICE; grant it or choose another --dns-listen",
        ": a port below 1024 needs CAP_NET_BIND_SERVICE; grant it or choose another address",
    ),
    errno.EADDRNOTAVAIL: (
        ": this machine does not have the address; add it or choose another --dns-listen",
        ": this machine does not have the address; add it or choose another",
    ),
    errno.ENFILE: ("", ""),
}


@pytest.mark.parametrize("number", REASONS, ids=errno.errorcode.get)
def test_the_message_says_where_why_and_what_to_do(number: int) -> None:
    with_setting, without = REASONS[number]
    error = OSError(number, "as the event loop words it")
    known = ListenError("::1", 53, "UDP", error, setting="--dns-listen")
    assert str(known) == f"cannot listen on [::1]:53 (UDP): {os.strerror(number)}{with_setting}"
    plain = ListenError("127.0.0.1", 80, "HTTP", error)
    assert str(plain) == f"cannot listen on 127.0.0.1:80 (HTTP): {os.strerror(number)}{without}"


def test_an_error_without_a_number_gives_its_text() -> None:
    assert str(ListenError("127.0.0.1", 80, "HTTP", OSError("no luck"))).endswith("(HTTP): no luck")
