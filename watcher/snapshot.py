"""The snapshot: the last good state on disk, for a start at which the source of the environments does not answer.

    interlock snapshot 1
    {"source": …, "release": …, "epoch": …, "change": …, …}          the header
    environment <id> <revision> <digest> <document>                  one line for each environment that is served
    host <id> <document>                                             one for each host, where hosts are followed
    down <id>                                                        one for each host that is down
    end <digest>                                                     of all octets before this line

A snapshot is written whole and then renamed, so a crash leaves the one before it. One that is cut short, altered, too
large, or of another source or form is not used at all. When the source last confirmed that the contents are current is
the time of the file's last change. All functions here block; `watcher.keeper` calls them in a thread.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from store.changes import BEGINNING, Position
from support.files import whole_file
from watcher.errors import SnapshotTooLarge, SnapshotUnusable
from zones import document
from zones.errors import Invalid
from zones.hosts import Hosts, decode_host, encode_host
from zones.model import Environment
from zones.names import EnvironmentId

FIRST_LINE = b"interlock snapshot 1\n"  # with the number of this form
PRIVATE = 0o600
WORK, REST = 0.001, 0.004  # seconds of encoding, and then without: the event loop waits for one of them at most

Kept = tuple[str, Environment]
"""The digest of a document in the source, and the environment that it holds."""


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a snapshot says of itself. A field that this release does not know is ignored."""

    source: str
    """What it is a snapshot of: one of another source is not used."""
    release: str
    """The release that wrote it."""
    taken: float
    """When it was written, in seconds of Unix time."""
    boot: str = ""
    """The id of the boot in which it was written; empty where it holds beyond one."""
    epoch: str | None = None
    """The epoch of the data set."""
    change: str = BEGINNING
    """The position of the newest change in it."""
    hosts_revision: int | None = None
    """The revision of all hosts; None where hosts are not followed."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a snapshot is to hold."""

    environments: Mapping[EnvironmentId, Kept]
    """All environments that are served. It is not changed while it is written."""
    position: Position = field(default=Position(None, BEGINNING))
    """The data set, and the newest change in it, that they are of."""
    hosts: Hosts | None = None
    """All hosts, or only those that are down; None where neither is followed."""


def write_snapshot(path: Path, header: Header, contents: Contents, limit: int, *, is_hurried: bool = False) -> int:
    """Writes the snapshot ``path``; returns its size in octets. Raises ``OSError`` and `SnapshotTooLarge`.

    It leaves the interpreter to other threads most of the time, unless ``is_hurried``.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with whole_file(path, PRIVATE) as file:
        writer = _Writer(file, limit)
        writer.write(FIRST_LINE)
        writer.write(msgspec.json.encode(header) + b"\n")
        started = time.perf_counter()
        for line in _lines(contents):
            writer.write(line)
            if not is_hurried and time.perf_counter() - started > WORK:
                time.sleep(REST)
                started = time.perf_counter()
        writer.write(b"end " + writer.digest() + b"\n")
    return writer.octets


def confirm_snapshot(path: Path) -> None:
    """Notes that the source has just confirmed the contents of ``path`` to be current. Raises ``OSError``."""
    os.utime(path)


class Snapshot:
    """A snapshot that was found to be whole. Its documents are read where they lie, also if another replaces it."""

    def __init__(self, file: BinaryIO, header: Header, confirmed: float, octets: int) -> None:
        self.header = header
        self.confirmed = confirmed  # when the source last confirmed the contents, in seconds of Unix time
        self.octets = octets
        self.digests: dict[EnvironmentId, str] = {}
        self.revisions: dict[EnvironmentId, int] = {}
        self.hosts: Hosts | None = None
        self._descriptor = os.dup(file.fileno())
        self._places: dict[EnvironmentId, tuple[int, int]] = {}

    @property
    def position(self) -> Position:
        """The data set, and the newest change in it, that the snapshot is of."""
        return Position(self.header.epoch, self.header.change)

    def __del__(self) -> None:
        os.close(self._descriptor)

    def __contains__(self, id_: EnvironmentId) -> bool:
        return id_ in self._places

    def read(self, id_: EnvironmentId) -> bytes:
        """The document of ``id_``."""
        offset, length = self._places[id_]
        return os.pread(self._descriptor, length, offset)

    def read_all(self, ids: Iterable[EnvironmentId]) -> list[tuple[EnvironmentId, bytes]]:
        """The documents of ``ids``."""
        return [(id_, self.read(id_)) for id_ in ids]

    def size(self, id_: EnvironmentId) -> int:
        """The octets of the document of ``id_``."""
        return self._places[id_][1]

    def put(self, id_: EnvironmentId, revision: int, digest: str, offset: int, length: int) -> None:
        """Adds the environment whose document has ``length`` octets from ``offset`` on."""
        self.digests[id_], self.revisions[id_], self._places[id_] = digest, revision, (offset, length)


def open_snapshot(path: Path, limit: int, check: Callable[[Header], str] = lambda _: "") -> Snapshot | None:
    """The snapshot at ``path``, checked to its last octet; None if there is none. Raises `SnapshotUnusable`.

    ``check`` says why a snapshot with that header is not to be used; nothing if it may be.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:  # of a pipe
            return _read(file, limit, check)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SnapshotUnusable(f"it cannot be read: {reason}") from None


def _read(file: BinaryIO, limit: int, check: Callable[[Header], str]) -> Snapshot:  # noqa: C901 one check each
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise SnapshotUnusable("it is no file")
    if status.st_size > limit:
        raise SnapshotUnusable(f"it has {status.st_size} octets, and at most {limit} are read: see --snapshot-limit")
    lines = _CheckedLines(file)
    if next(lines, b"") != FIRST_LINE:
        raise SnapshotUnusable("it is no snapshot of a form that this release reads")
    header = _decode(Header, next(lines, b""))
    if reason := check(header):
        raise SnapshotUnusable(reason)
    snapshot = Snapshot(file, header, status.st_mtime, status.st_size)
    hosts: dict[str, Any] = {}
    down = set[str]()
    for line in lines:
        match line.split(b" ", 4):
            case [b"environment", id_, revision, digest, written]:
                start = lines.offset - len(written)
                snapshot.put(EnvironmentId(id_.decode()), int(revision), digest.decode(), start, len(written) - 1)
            case [b"host", *_]:
                id_, _, written = line.removeprefix(b"host ").partition(b" ")
                hosts[id_.decode()] = written
            case [b"down", id_]:
                down.add(id_.removesuffix(b"\n").decode())
    if not lines.is_whole:
        raise SnapshotUnusable("it is cut short or was altered: its digest is not that of its contents")
    if header.hosts_revision is not None:
        snapshot.hosts = replace(_decode_hosts(header.hosts_revision, hosts), down=frozenset(down))
    return snapshot


def _decode_hosts(revision: int, written: Mapping[str, bytes]) -> Hosts:
    hosts, unreadable = {}, {}
    for id_, each in written.items():
        try:
            hosts[id_] = decode_host(each)
        except Invalid as error:
            unreadable[id_] = str(error)
    return Hosts(revision, hosts, unreadable)


def _decode(kind: type[Header], line: bytes) -> Header:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SnapshotUnusable(f"its header cannot be read: {error}") from None


def _lines(contents: Contents) -> Iterable[bytes]:
    for id_, (digest, environment) in contents.environments.items():
        written = document.encode(environment)
        yield b"environment %s %d %s %s\n" % (id_.encode(), environment.revision, digest.encode(), written)
    for host_id, host in (contents.hosts.hosts if contents.hosts else {}).items():
        yield b"host %s %s\n" % (host_id.encode(), encode_host(host))
    for host_id in sorted(contents.hosts.down) if contents.hosts else ():
        yield b"down %s\n" % host_id.encode()


class _Writer:
    """Writes to ``file``, counts and digests. Raises `SnapshotTooLarge` beyond ``limit`` octets."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.octets = 0
        self._file, self._limit = file, limit
        self._hash = hashlib.blake2b(digest_size=16)

    def write(self, octets: bytes) -> None:
        self.octets += len(octets)
        if self.octets > self._limit:
            raise SnapshotTooLarge(f"it would have more than {self._limit} octets: see --snapshot-limit")
        self._hash.update(octets)
        self._file.write(octets)

    def digest(self) -> bytes:
        return self._hash.hexdigest().encode()


class _CheckedLines(Iterator[bytes]):
    """The lines of a snapshot but its last, which says whether the others are as they were written."""

    def __init__(self, file: BinaryIO) -> None:
        self.offset = 0  # of the end of the line that was given last
        self.is_whole = False  # whether the last line was reached, stands at the end, and is right
        self._file = file
        self._hash = hashlib.blake2b(digest_size=16)

    def __next__(self) -> bytes:
        line = self._file.readline()
        if line.startswith(b"end "):
            self.is_whole = line == b"end " + self._hash.hexdigest().encode() + b"\n" and not self._file.read(1)
            raise StopIteration
        if not line:
            raise StopIteration
        self._hash.update(line)
        self.offset += len(line)
        return line
