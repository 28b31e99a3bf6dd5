"""WireGuard in userspace: ``wireguard-go`` on a TUN device, configured through its socket (the cross-platform UAPI).

The agent starts the process, and the process outlives the agent: the next agent finds it with its sessions, and no
connection is interrupted. When the process dies its device goes with it; `Userspace.ensure` then starts another.

The protocol: ``get=1`` or ``set=1``, lines of ``key=value``, an empty line; the answer ends with ``errno=0`` and an
empty line. Keys are written in hexadecimal (https://www.wireguard.com/xplatform/).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import signal
import socket
import subprocess
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from agent.errors import Failed, PortInUse
from agent.keys import PrivateKey
from agent.plan.peers import (
    BLACKHOLE_PEER,
    ActualPeer,
    DropAddresses,
    DropPeer,
    PeerStep,
    SetPeer,
    StartHandshake,
    Tunnel,
)
from agent.system.deadline import answered_in_time
from agent.system.namespaces import OWN_NAMESPACE
from agent.system.netlink import Links
from agent.system.udp_ports import describe_port_in_use
from zones.addresses import Address
from zones.errors import Invalid
from zones.keys import PublicKey

PROGRAM = "wireguard-go"
SOCKETS = Path("/var/run/wireguard")
MANY = 1_000  # addresses of one peer, of which the lines of the last answer are kept: some 100 octets each
LARGE_ANSWER = 65_536  # octets; a larger one is parsed in a thread, so that the event loop is not blocked
END_DEADLINE = 2.0  # seconds that a process has to end once its device is gone; it takes some milliseconds

_RECEIVE = 1 << 18  # octets at once, of some megabytes where there are thousands of peers
_HOST_BITS = "/128"
_KEY_DIGITS = 64  # of a key in hexadecimal


log = logging.getLogger(__name__)


class Userspace:
    """The device ``name``. ``links`` finds and removes its link; ``sockets`` is where wireguard-go makes its socket."""

    kind = "wireguard-go"

    def __init__(self, name: str, links: Links, sockets: Path = SOCKETS) -> None:
        self._name = name
        self._links = links
        self._socket = sockets / f"{name}.sock"
        self._reader = TunnelReader()

    async def ensure(self, key: PrivateKey, port: int, mtu: int) -> None:
        if not await self._is_running():
            await self._start()
        tunnel = await self.read()
        if tunnel is None or tunnel.public_key != key.public or tunnel.port != port:
            try:
                await self._set([f"private_key={key.octets.hex()}", f"listen_port={port}"])
            except PortInUse:
                raise Failed(await asyncio.to_thread(describe_port_in_use, port)) from None
        self._links.set_up(self._name, mtu)

    async def read(self) -> Tunnel | None:
        try:
            answer = await self._ask("get=1\n\n")
        except _NotRunning:
            return None
        if len(answer) > LARGE_ANSWER:
            return await asyncio.to_thread(self._reader.read, answer)
        return self._reader.read(answer)

    async def apply(self, steps: Sequence[PeerStep]) -> None:
        if steps:
            await self._set([line for step in steps for line in _lines(step)])

    async def set_key(self, key: PrivateKey) -> None:
        await self._set([f"private_key={key.octets.hex()}"])

    async def remove(self) -> None:
        # The process ends when its socket is removed, and the device ends with the process.
        self._socket.unlink(missing_ok=True)
        async with answered_in_time(f"{PROGRAM} of {self._name}"):
            self._links.remove(self._name)
        await self._end_process()

    async def _end_process(self) -> None:
        """Returns when no process of this device is left: one that does not end by itself is ended."""
        for patience, signal_ in ((END_DEADLINE, signal.SIGTERM), (END_DEADLINE, signal.SIGKILL), (END_DEADLINE, None)):
            loop = asyncio.get_running_loop()
            deadline = loop.time() + patience
            while processes := await asyncio.to_thread(_processes, self._name):
                if loop.time() >= deadline:
                    break
                await asyncio.sleep(0.01)
            else:
                return
            if signal_ is None:
                raise Failed(f"{PROGRAM} of {self._name} does not end: process {processes[0]}")
            log.warning("wireguard_go_ended", extra={"pids": processes, "signal": signal_.name})
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal_)

    async def _is_running(self) -> bool:
        try:
            async with self._connected():
                return self._links.exists(self._name)
        except OSError:
            return False

    async def _start(self) -> None:
        program = shutil.which(PROGRAM)
        if program is None:
            raise Failed(f"there is no {PROGRAM} and the kernel has no WireGuard: install the package {PROGRAM}")
        self._socket.unlink(missing_ok=True)
        self._links.remove(self._name)
        await self._end_process()  # one that hangs would keep the port
        # It forks into the background once its socket is there; only with LOG_LEVEL set would it keep our pipe open.
        # It gets a session of its own, so that a signal to the agent's does not end it.
        environ = {
            name: value for name, value in os.environ.items() if name not in ("LOG_LEVEL", "WG_PROCESS_FOREGROUND")
        }
        async with answered_in_time(PROGRAM):
            process = await asyncio.create_subprocess_exec(
                program,
                self._name,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environ,
                start_new_session=True,
            )
            _, output = await process.communicate()
        if process.returncode:
            last = " ".join(output.decode(errors="replace").split()[-20:])
            raise Failed(f"{PROGRAM} {self._name} did not start: {last or f'status {process.returncode}'}")
        async with answered_in_time(f"{PROGRAM} of {self._name}"):
            while not await self._is_running():  # noqa: ASYNC110 nothing notifies of it
                await asyncio.sleep(0.005)

    async def _set(self, lines: Sequence[str]) -> None:
        answer = await self._ask("set=1\n" + "\n".join(lines) + "\n\n")
        if answer.strip() == f"errno={-errno.EADDRINUSE}":
            raise PortInUse(f"{PROGRAM} of {self._name} cannot have its port")
        if answer.strip() != "errno=0":
            raise Failed(f"{PROGRAM} of {self._name} refused a change: {' '.join(answer.split()[-3:])}")

    async def _ask(self, question: str) -> str:
        async with answered_in_time(f"the socket of {PROGRAM}, {self._socket},"):
            try:
                async with self._connected() as connection:
                    return await self._exchange(connection, question)
            except OSError as error:
                raise _NotRunning(f"{PROGRAM} of {self._name} does not run: {error.strerror}") from None

    async def _exchange(self, connection: socket.socket, question: str) -> str:
        loop, answer = asyncio.get_running_loop(), bytearray()
        try:
            await loop.sock_sendall(connection, question.encode())
            while not answer.endswith(b"\n\n"):
                if not (some := await loop.sock_recv(connection, _RECEIVE)):
                    raise Failed(f"{PROGRAM} of {self._name} hung up: {len(answer)} octets of an answer came")
                answer += some
        except OSError as error:
            raise Failed(f"{PROGRAM} of {self._name} hung up: {error}") from None
        return answer.decode("ascii")

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[socket.socket]:
        # A socket and no stream: each pass with a change of peers has a connection of its own, and asyncio's streams
        # take a millisecond to make one.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            await asyncio.get_running_loop().sock_connect(connection, str(self._socket))
            yield connection


class _NotRunning(Failed):
    """No process listens on the device's socket."""


def _processes(name: str) -> list[int]:
    """The processes of wireguard-go for the device ``name`` in the network namespace of this thread."""
    ours, found = os.stat(OWN_NAMESPACE), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() != PROGRAM:
                continue
            words, theirs = (process / "cmdline").read_bytes().split(b"\0"), (process / "ns/net").stat()
        except OSError:
            continue  # it has ended
        if name.encode() in words and (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino):
            found.append(int(process.name))
    return found


def _lines(step: PeerStep) -> Iterator[str]:
    match step:
        case DropPeer(key):
            yield f"public_key={_hex(key)}"
            yield "remove=true"
        case DropAddresses(addresses):
            yield f"public_key={_hex(BLACKHOLE_PEER)}"
            yield from (f"allowed_ip={address}{_HOST_BITS}" for address in addresses)
            yield f"public_key={_hex(BLACKHOLE_PEER)}"
            yield "remove=true"
        case StartHandshake(key, keepalive):
            # Switching keepalives on sends one at once; nothing else makes the device begin a handshake.
            for seconds in (0, 1, keepalive):
                yield f"public_key={_hex(key)}"
                yield f"persistent_keepalive_interval={seconds}"
        case SetPeer(key):
            yield f"public_key={_hex(key)}"
            if step.endpoint is not None:
                yield f"endpoint={step.endpoint}"
            if step.keepalive is not None:
                yield f"persistent_keepalive_interval={step.keepalive}"
            if step.replace:
                yield "replace_allowed_ips=true"
            yield from (f"allowed_ip={address}{_HOST_BITS}" for address in step.add)


class TunnelReader:
    """Reads the answers to ``get=1``, and remembers what it has decoded.

    Most peers are as they were in the last answer, to the letter; of most others only the counters have changed. Of a
    peer with many addresses only those are decoded that have come or gone.
    """

    def __init__(self) -> None:
        self._peers: dict[str, tuple[PublicKey, ActualPeer]] = {}  # by all lines of each
        self._by_allowed: dict[str, ActualPeer] = {}  # by the lines of their allowed addresses
        self._many: dict[str, tuple[frozenset[str], frozenset[Address]]] = {}  # by key: these lines, and what they say

    def read(self, answer: str) -> Tunnel:
        """The device that ``answer`` describes; ``answer`` may end with its ``errno`` line."""
        device, *described = answer.partition("errno=")[0].split("public_key=")
        values = _values(device)
        private = values.get("private_key", "0")
        public_key = PrivateKey(bytes.fromhex(private)).public if int(private, 16) else None
        decoded = {lines: self._peers.get(lines) or self._decode(lines) for lines in described}
        self._peers = decoded
        self._by_allowed = {_allowed_lines(lines): peer for lines, (_, peer) in decoded.items()}
        present = {lines[:_KEY_DIGITS] for lines in decoded}
        self._many = {key: known for key, known in self._many.items() if key in present}
        return Tunnel(public_key, int(values.get("listen_port", "0")), dict(decoded.values()))

    def _decode(self, lines: str) -> tuple[PublicKey, ActualPeer]:
        key, rest = lines[:_KEY_DIGITS], lines[_KEY_DIGITS + 1 :]
        allowed = _allowed_lines(rest)
        same = self._by_allowed.get(allowed)
        allowed_ips, is_foreign = (same.allowed_ips, same.is_foreign) if same else self._read_allowed(key, allowed)
        peer = _read_peer(_values(rest.removesuffix(allowed)), allowed_ips, is_foreign)
        return PublicKey(b64encode(bytes.fromhex(key)).decode()), peer

    def _read_allowed(self, key: str, block: str) -> tuple[frozenset[Address], bool]:
        """The single addresses that ``block`` allows to the peer ``key``, and whether it has anything else."""
        lines, before = block.splitlines(), self._many.pop(key, None)
        if len(lines) < MANY:
            return _read_allowed(lines)
        now = frozenset(lines)
        if before is None:
            addresses, is_foreign = _read_allowed(lines)
        else:
            come, is_foreign = _read_allowed(now - before[0])
            gone, _ = _read_allowed(before[0] - now)
            addresses = before[1] - gone | come
        if not is_foreign:
            self._many[key] = now, addresses
        return addresses, is_foreign


def _allowed_lines(lines: str) -> str:
    """The end of a peer's ``lines``, which says what is allowed to it."""
    start = lines.find("allowed_ip=")
    return "" if start < 0 else lines[start:]


def _values(lines: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines.splitlines())


def _read_allowed(lines: Iterable[str]) -> tuple[frozenset[Address], bool]:
    """The single IPv6 addresses in ``lines``, and whether they have anything else: a network, or an IPv4 address."""
    allowed: list[Address] = []
    is_foreign = False
    for line in lines:
        address, _, bits = line.partition("=")[2].partition("/")
        try:
            allowed.append(Address.parse(address))
        except Invalid:
            is_foreign = True
        is_foreign |= bits != "128"
    return frozenset(allowed), is_foreign


def _read_peer(values: Mapping[str, str], allowed_ips: frozenset[Address], is_foreign: bool) -> ActualPeer:
    seconds, nanoseconds = values.get("last_handshake_time_sec", "0"), values.get("last_handshake_time_nsec", "0")
    return ActualPeer(
        endpoint=values.get("endpoint"),
        allowed_ips=allowed_ips,
        keepalive=int(values.get("persistent_keepalive_interval", "0")),
        handshake=int(seconds) + int(nanoseconds) / 1e9,
        received=int(values.get("rx_bytes", "0")),
        sent=int(values.get("tx_bytes", "0")),
        is_foreign=is_foreign,
    )


def _hex(key: PublicKey) -> str:
    return b64decode(key).hex()
