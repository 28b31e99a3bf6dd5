"""Where the hosts and links of the mesh are drawn. No I/O.

Up to `RING` hosts stand in a circle, with a line for each pair that shares an environment. More of them are a matrix: a
row sees, a column is seen. With a focus, that host stands in the middle and those that it is linked with around it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from admin.resources.mesh import MeshHost, MeshLink, MeshReply

RING = 24  # hosts; the lines between more cover each other
SIZE = 640.0  # of the drawing of a circle, in units
CELL = 10  # units of a cell of the matrix
WORST = ("down", "missing", "silent", "unknown", "idle", "ok")  # of the two directions of a pair the worse one is drawn


@dataclass(frozen=True, slots=True)
class Spot:
    """A host as it is drawn."""

    host: MeshHost
    """The host."""
    x: float
    """Where it is, from the left."""
    y: float
    """Where it is, from the top."""
    label_x: float
    """Where its name is."""
    label_y: float
    """Where its name is."""
    anchor: str
    """Which end of its name is there."""
    turn: float = 0.0
    """By how many degrees its name is turned, so that names beside each other do not overlap."""


@dataclass(frozen=True, slots=True)
class Line:
    """A pair of hosts that share an environment, as it is drawn."""

    one: Spot
    """The host that sees."""
    other: Spot
    """The host that is seen."""
    state: str
    """The worse of the states of the two directions."""
    text: str
    """Both directions, in words."""


@dataclass(frozen=True, slots=True)
class Circle:
    """Hosts in a circle."""

    spots: Sequence[Spot]
    """The hosts."""
    lines: Sequence[Line]
    """Their links, the bad ones last, so that they are above the others."""
    is_dense: bool
    """Whether names are small."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """All pairs: the cells of one state are one path."""

    hosts: Sequence[MeshHost]
    """The hosts, as rows and columns."""
    cells: Mapping[str, str]
    """The path of the cells of each state, but of those that are well."""
    size: int
    """How wide and high the cells are together."""


def circle(mesh: MeshReply, focus: str = "") -> Circle:
    """All hosts of ``mesh`` in a circle; with ``focus``, that one in the middle, and those it is linked with."""
    linked = {one.target for one in mesh.links if one.source == focus}
    around = [one for one in mesh.hosts if not focus or one.id in linked]
    middle, radius, is_dense = SIZE / 2, SIZE / 2 - 110, len(around) > RING
    spots = {}
    for number, host in enumerate(around):
        angle = 2 * math.pi * number / max(1, len(around)) - math.pi / 2
        across, down = math.cos(angle), math.sin(angle)
        anchor = "middle" if abs(across) < 0.3 and not is_dense else "start" if across > 0 else "end"
        turn = math.degrees(angle) + (0 if across > 0 else 180) if is_dense else 0.0
        spots[host.id] = Spot(
            host,
            middle + radius * across,
            middle + radius * down,
            middle + (radius + 14) * across,
            middle + (radius + 14) * down + (0 if is_dense else 4),
            anchor,
            turn,
        )
    for host in mesh.hosts:
        if host.id == focus:
            spots[focus] = Spot(host, middle, middle, middle, middle - 14, "middle")
    lines = [
        Line(spots[one.source], spots[one.target], worse(one, back), _in_words(one, back))
        for one, back in _pairs(mesh)
        if one.source in spots and one.target in spots and focus in ("", one.source, one.target)
    ]
    lines.sort(key=lambda line: -WORST.index(line.state))
    return Circle(list(spots.values()), lines, is_dense)


def matrix(mesh: MeshReply) -> Matrix:
    """All pairs of hosts of ``mesh``."""
    place = {host.id: number for number, host in enumerate(mesh.hosts)}
    paths: dict[str, list[str]] = {}
    seen = set()
    for one in mesh.links:
        if one.source in place and one.target in place:
            row, column = place[one.source], place[one.target]
            seen.add((row, column))
            if one.state != "ok":
                paths.setdefault(one.state, []).append(_cell(row, column))
    size = len(place)
    none = [_cell(row, column) for row in range(size) for column in range(size) if (row, column) not in seen]
    cells = {"none": "".join(none), **{state: "".join(found) for state, found in paths.items()}}
    return Matrix(mesh.hosts, cells, size * CELL)


def worse(one: MeshLink, other: MeshLink | None) -> str:
    """The worse of the states of both directions."""
    states = {one.state, other.state if other else one.state}
    return next(state for state in WORST if state in states)


def _cell(row: int, column: int) -> str:
    return f"M{column * CELL} {row * CELL}h{CELL - 1}v{CELL - 1}h-{CELL - 1}z"


def _pairs(mesh: MeshReply) -> Sequence[tuple[MeshLink, MeshLink | None]]:
    by_pair = {(one.source, one.target): one for one in mesh.links}
    found = []
    for (source, target), one in by_pair.items():
        back = by_pair.get((target, source))
        if source < target or back is None:
            found.append((one, back))
    return found


def _in_words(one: MeshLink, back: MeshLink | None) -> str:
    return "; ".join(describe(link) for link in (one, back) if link)


def describe(link: MeshLink) -> str:
    """``link`` in words."""
    said = {
        "ok": f"handshake {link.handshake_seconds or 0:.0f} s ago",
        "idle": "no handshake yet",
        "silent": f"silent for {link.silent_seconds or 0:.0f} s",
        "missing": "no peer",
        "down": "down",
        "unknown": "not known",
    }[link.state]
    octets = f", {in_octets(link.received)} in, {in_octets(link.sent)} out" if link.received or link.sent else ""
    return f"{link.source} → {link.target}: {said}{octets}"


def in_octets(number: int) -> str:
    """``number`` of octets in a few characters."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
