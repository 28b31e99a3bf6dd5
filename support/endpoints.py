"""``ADDRESS:PORT``, as it is written and as it is read. Pure: it does no I/O and looks up no names."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple

_WRITTEN = re.compile(r"(?:\[([^\]]*)\]|([^:]*)):([0-9]{1,5})")


class AutoEndpoint(NamedTuple):
    """An endpoint whose address is to be found out."""

    port: int
    """The port."""

    def __str__(self) -> str:
        return f"auto:{self.port}"


class Endpoint(NamedTuple):
    """An IP address without brackets, and a port; port 0 of an address to listen on lets the system choose one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Reads ``127.0.0.1:53`` or ``[::1]:53``, and writes the address in its canonical form (RFC 5952).

        Raises ``ValueError``, with a message that says what would be right.
        """
        match = _WRITTEN.fullmatch(text)
        if match is None or int(match[3]) > 65535:
            raise ValueError(f"{text!r} is not ADDRESS:PORT: write it as in 127.0.0.1:53 or [::1]:53")
        try:
            address = ip_address(match[1] or match[2] or "")
        except ValueError:
            raise ValueError(f"{text!r} has no IP address before the port: write it as in 127.0.0.1:53") from None
        if (address.version == 6) is not (match[1] is not None):
            raise ValueError(f"{text!r}: write brackets around an IPv6 address, and only there, as in [::1]:53")
        return cls(str(address), int(match[3]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
