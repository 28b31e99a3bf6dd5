"""Why an address cannot be listened on, in one line for the person who chose the address."""

from __future__ import annotations

import errno
import os

from support.endpoints import Endpoint


class ListenError(Exception):
    """An address cannot be listened on; the message is one line that says why and what to do.

    ``protocol`` is what was to be served there, and ``setting`` the flag that names another address, where the one
    who raises it knows the flag.
    """

    def __init__(self, host: str, port: int, protocol: str, error: OSError, *, setting: str = "") -> None:
        another = f"choose another {setting or 'address'}"
        hints = {
            errno.EADDRINUSE: f"another server listens there; stop it or {another}",
            errno.EACCES: f"a port below 1024 needs CAP_NET_BIND_SERVICE; grant it or {another}",
            errno.EADDRNOTAVAIL: f"this machine does not have the address; add it or choose another {setting}".rstrip(),
        }
        reason = os.strerror(error.errno) if error.errno else str(error)
        hint = hints.get(error.errno or 0)
        super().__init__(
            f"cannot listen on {Endpoint(host, port)} ({protocol}): {reason}" + (f": {hint}" if hint else "")
        )
