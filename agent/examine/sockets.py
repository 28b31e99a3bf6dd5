"""The sockets that take connections or datagrams in a network namespace, each with the program that has it.

A program that is bound to IPv4 alone, or to the loopback, cannot be reached by its instance's address. It is the oldest
trap of networks like this one, and only from inside can it be told from a closed port.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from agent.examine.facts import Listener

_TABLES = {"tcp": "tcp", "tcp6": "tcp", "udp": "udp", "udp6": "udp"}
_NET = Path("/proc/thread-self/net")
_PROC = Path("/proc")
_LISTEN = {"tcp": "0A", "udp": "07"}  # <net/tcp_states.h>: TCP_LISTEN; a datagram socket that is not connected
MOST = 200  # sockets that are reported; more would be no help to a reader


def read_listeners() -> list[tuple[str, str, int, str]]:
    """Protocol, address, port and inode of each, in the network namespace of this thread. Raises ``OSError``."""
    found = []
    for table, protocol in _TABLES.items():
        try:
            lines = (_NET / table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue  # IPv6 is switched off
        found += [one for line in lines if (one := _read_line(protocol, line))]
    return found[:MOST]


def name_owners(sockets: list[tuple[str, str, int, str]], namespace: int) -> tuple[Listener, ...]:
    """``sockets`` as listeners with their programs; ``namespace`` is a descriptor of their network namespace."""
    wanted = {inode for *_, inode in sockets}
    owners = _find_owners(wanted, os.fstat(namespace)) if wanted else {}
    return tuple(Listener(protocol, address, port, owners.get(inode, "")) for protocol, address, port, inode in sockets)


def processes_inside(namespace: os.stat_result) -> Iterator[Path]:
    """The folders below /proc of the processes in the network namespace whose file has this status."""
    for process in _PROC.iterdir():
        if not process.name.isdigit():
            continue
        try:
            status = (process / "ns" / "net").stat()
        except OSError:
            continue  # it has ended
        if (status.st_dev, status.st_ino) == (namespace.st_dev, namespace.st_ino):
            yield process


def _read_line(protocol: str, line: str) -> tuple[str, str, int, str] | None:
    fields = line.split()
    local, remote, state, inode = fields[1], fields[2], fields[3], fields[9]
    if state != _LISTEN[protocol] or int(remote.rpartition(":")[2], 16):
        return None
    digits, _, port = local.rpartition(":")
    return protocol, _read_address(digits), int(port, 16), inode


def _read_address(digits: str) -> str:
    # Words of 32 bits, each in the byte order of the machine.
    octets = b"".join(int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8))
    if len(octets) == 4:
        return str(IPv4Address(octets))
    address = IPv6Address(octets)
    return str(address.ipv4_mapped or address)


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""  # that descriptor was closed meanwhile


def _find_owners(inodes: set[str], namespace: os.stat_result) -> Mapping[str, str]:
    """The program of each socket, by its inode. A process elsewhere that was handed the socket is not looked for."""
    names = {f"socket:[{inode}]": inode for inode in inodes}
    owners: dict[str, str] = {}
    for process in processes_inside(namespace):
        try:
            program = (process / "comm").read_text().strip()
            for descriptor in (process / "fd").iterdir():
                if inode := names.get(_target(descriptor)):
                    owners.setdefault(inode, f"{program} (process {process.name})")
        except OSError:
            continue  # it has ended
        if len(owners) == len(inodes):
            break
    return owners
