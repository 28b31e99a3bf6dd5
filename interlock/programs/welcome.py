"""What ``interlock up`` says when it is ready: what to try next, and where things are."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from support.endpoints import Endpoint
from zones.addresses import Platform


@dataclass(frozen=True, slots=True)
class Welcome:
    """``new_token`` is the admin token where it was made just now."""

    dns: Endpoint
    api: str
    token_file: Path
    new_token: str | None
    platform: Platform
    has_demo: bool

    def __str__(self) -> str:
        return "\n".join(["", "Interlock is ready.", "", *self._attempts(), "", *self._places(), ""])

    def _attempts(self) -> Iterable[str]:
        token = f'"Authorization: Bearer $(cat {shlex.quote(str(self.token_file))})"'
        if self.has_demo:
            name = self.platform.apex.child("api")
            yield f"  Try    dig @{self.dns.host} -p {self.dns.port} {str(name).rstrip('.')} AAAA +short"
        else:
            yield "  Try    interlock env create hello     (or start with --demo, and have something to ask for)"
        yield f"         curl -H {token} {self.api}/v1/environments"

    def _places(self) -> Iterable[str]:
        yield f"  API    {self.api}     (described at /openapi.json)"
        yield f"  Token  {self.token_file}"
        # Under a service manager our output is a log, and a log is no place for it.
        if self.new_token and "JOURNAL_STREAM" not in os.environ:
            yield f"         {self.new_token}     (new, and shown this once)"
        yield "  End    Ctrl-C; what you have made is kept"
