"""Who holds a UDP port of this host, for the message that it is in use."""

from __future__ import annotations

from pathlib import Path

_TABLES = (Path("/proc/thread-self/net/udp"), Path("/proc/thread-self/net/udp6"))
_PROCESSES = Path("/proc")


def describe_port_in_use(port: int) -> str:
    """Says that UDP ``port`` is in use and by whom, and what to do."""
    return (
        f"UDP port {port}, which WireGuard is to listen on, is in use by {_holder(port)}: end that, or give this host"
        " another port with --endpoint"
    )


def _holder(port: int) -> str:
    inodes = _sockets(port)
    for process in sorted(_PROCESSES.glob("[0-9]*")):
        try:
            if any(str(descriptor.readlink()) in inodes for descriptor in (process / "fd").iterdir()):
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
        except OSError:
            continue  # it has ended
    return "the kernel, as by another WireGuard device" if inodes else "something that has just ended"


def _sockets(port: int) -> set[str]:
    """The sockets that are bound to ``port``, as the descriptors of a process name them."""
    found = set()
    for table in _TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue  # no IPv6 here
        for line in lines:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found
