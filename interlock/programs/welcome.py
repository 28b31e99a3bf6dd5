"""The welcome that ``interlock up`` prints when it is ready: commands to try, and where the API and the token are."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from support.endpoints import Endpoint
from zones.addresses import Platform


@dataclass(frozen=True, slots=True)
class Welcome:
    """The welcome; ``str`` gives its text."""

    dns: Endpoint
    """Where clients on this machine reach the DNS server."""
    api: str
    """The URL of the admin API, for clients on this machine."""
    token_file: Path
    """The file that holds the admin token."""
    platform: Platform
    """The platform, whose zone the examples are in."""
    has_demo: bool
    """Whether the demo was loaded, so that there is a name to query."""
    console: str = ""
    """A link that signs a browser in to the console, once; empty where there is none."""
    has_mesh: bool = False
    """Whether this machine is a host of the mesh, so that workloads can be attached."""

    def __str__(self) -> str:
        return "\n".join(["", "Interlock is ready.", "", *self._examples(), "", *self._addresses(), ""])

    def _examples(self) -> Iterable[str]:
        token = f'"Authorization: Bearer $(cat {shlex.quote(str(self.token_file))})"'
        if self.has_demo:
            name = self.platform.apex.child("api")
            yield f"  Try    dig @{self.dns.host} -p {self.dns.port} {str(name).rstrip('.')} AAAA +short"
        else:
            yield "  Try    interlock env create hello     (or start with --demo, for an environment with names)"
        if self.has_mesh:
            where = "-e demo --service api" if self.has_demo else "-e ENVIRONMENT --service SERVICE"
            yield f"         interlock attach {where} --instance here --netns NAMESPACE     (as root)"
        yield f"         curl -H {token} {self.api}/v1/environments"

    def _addresses(self) -> Iterable[str]:
        if self.console:
            yield f"  Look   {self.console}"
            yield "         in a browser; the link works once, and 'interlock console' makes another"
        else:
            yield f"  Look   {self.api}     in a browser; 'interlock console' makes a link that signs in"
        yield f"  API    {self.api}     (described at /openapi.json)"
        # The token itself is never printed: the output may be a log, of a container or of a service manager.
        yield f"  Token  in {self.token_file}; 'interlock' commands of this user find it there"
        if self.has_mesh:
            yield "  Stop   Ctrl-C; workloads stay attached. 'interlock host leave', before that, takes the mesh away"
        else:
            yield "  Stop   Ctrl-C; environments and records are kept"
