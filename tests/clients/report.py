"""docs/compatibility.md: the results of a run of the matrix, for people who must decide whether to trust the server."""

from __future__ import annotations

import contextlib
import os
import platform
import textwrap
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from pathlib import Path

from tests.clients.builds import Build
from tests.clients.controls import CONTROLS
from tests.clients.faults import FAULTS
from tests.clients.matrix import Cell
from tests.clients.roster import GLIBC, MUSL, NOT_TO_BE_HAD, Client
from tests.clients.scenarios import SCENARIOS, SLOW

ROOT = Path(__file__).parents[2]
PATH = ROOT / "docs" / "compatibility.md"

_HEAD = """# Compatibility

The client resolvers that were run against Interlock, the names that they looked up, and the results. `make clients`
runs all of them again and writes this page; do not edit it by hand.

Each client ran in a network and mount namespace of its own, as a container does: one address inside an environment's
network, `fd12::10` as its only nameserver, and this `resolv.conf`:

    nameserver fd12::10
    search railway.internal
    options ndots:1

The server was `interlock up`, with a scripted resolver as its upstream. What a client sent was read from the packets
on its link, not from the server's own log. A look-up **passes** when the client finds exactly the records that exist,
sends no query twice and no more queries than names × address families, and takes less than a second. All look-ups
slower than 100 ms are listed below. Every client makes one look-up before those that are measured.
"""

_CELLS = """
A cell is *queries · milliseconds* as the client measured them; `tcp` means that it sent queries over TCP. – means
that this client cannot make the look-up; the number beside it is a footnote with the reason. Where no upstream
answers, the server answered every query (SERVFAIL) within a second; the time is how long the client itself goes on
trying.
"""

_CONTROLS_HEAD = """
## Does the harness notice a wrong server?

The same clients look up one name at servers each of which is wrong in one way, on purpose. A client **fails** if it
finds anything but the records that exist, sends a query again, or takes longer than a second. The run itself passes
only if the clients under **must fail** do fail. This is also a list of what a DNS server must not do.

| server | must fail, and do | fail too | do not notice |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Result:
    """The results of a run.

    ``builds`` has the clients that could be built, and ``missing`` why the others could not. ``cells`` are by client
    and the scenario's key. ``noticed`` has, by the control's fault, how each client failed; the text is empty if the
    client did not. ``seconds`` is how long the run took.
    """

    builds: Mapping[Client, Build]
    missing: Mapping[Client, str]
    cells: Mapping[Client, Mapping[str, Cell]]
    noticed: Mapping[str, Mapping[Client, str]]
    seconds: float


@dataclass(slots=True)
class _Notes:
    """Footnotes, numbered by their first use."""

    texts: list[str] = field(default_factory=list)

    def number(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"<sup>{self.texts.index(text) + 1}</sup>"


def failures(result: Result) -> Iterable[str]:
    """The look-ups and controls that did not come out as they should, a line each."""
    for client, cells in result.cells.items():
        for key, cell in cells.items():
            if cell.applies and cell.reason:
                yield f"{client}, {key}: {cell.reason}"
    for control in CONTROLS:
        for client, reason in result.noticed.get(control.fault, {}).items():
            if client.key in control.hurts and not reason:
                yield f"{client} does not notice {control.fault}, so the harness proves nothing about it"


def render(result: Result) -> str:
    """The page."""
    notes = _Notes()
    parts = [_HEAD, _summary(result), "\n## Every look-up\n", _CELLS]
    parts += _tables(result, notes)
    parts += ["\n", *(wrapped(f"{number}. {text}.", "   ") for number, text in enumerate(notes.texts, 1))]
    parts += [_slow(result), _controls(result), _not_to_be_had(result)]
    return "".join(parts)


def _summary(result: Result) -> str:
    counted = [cell for cells in result.cells.values() for cell in cells.values() if cell.applies]
    passed = sum(cell.passed for cell in counted)
    failed = len(counted) - passed
    lines = [
        f"\n**{len(result.cells)} clients, {len(counted)} look-ups: {passed} passed, {failed} failed.**\n",
        f"Run on {date.today()}, on {_system()} with {os.cpu_count()} cores, in {result.seconds:.0f} seconds.\n",
        "\n| client | version | passed | slowest, ms |\n|---|---|---|---|\n",
    ]
    for client, cells in result.cells.items():
        applying = {key: cell for key, cell in cells.items() if cell.applies}
        times = [cell.milliseconds for key, cell in applying.items() if key not in ("outside-dead", "hundred")]
        count = f"{sum(cell.passed for cell in applying.values())} of {len(applying)}"
        lines.append(f"| {client.name} | {result.builds[client].version} | {count} | {_time(max(times))} |\n")
    lines.append("\n*Slowest* leaves out 100 names at once and upstreams that do not answer: they have rows below.\n")
    return "".join(lines)


def _system() -> str:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release()["PRETTY_NAME"].partition(" (")[0]
    return platform.system()


def _tables(result: Result, notes: _Notes) -> Iterable[str]:
    for family, members in groupby(result.cells, key=lambda client: client.family):
        clients = list(members)
        yield f"\n### {family}\n\n| look-up | " + " | ".join(_label(client, result) for client in clients) + " |\n"
        yield "|---" * (len(clients) + 1) + "|\n"
        for scenario in SCENARIOS:
            cells = [result.cells[client].get(scenario.key) for client in clients]
            if any(cell and cell.applies for cell in cells):
                yield f"| {scenario.title} | " + " | ".join(_cell(cell, notes) for cell in cells) + " |\n"


def _label(client: Client, result: Result) -> str:
    return f"{client.name} {result.builds[client].version.partition(',')[0]}".strip()


def _cell(cell: Cell | None, notes: _Notes) -> str:
    if cell is None:
        return ""
    if not cell.applies:
        return "–" + notes.number(cell.reason)
    if cell.reason:
        return "**fails** " + notes.number(cell.reason)
    tcp = " tcp" if cell.tcp else ""
    return f"{cell.queries}{tcp} · {_time(cell.milliseconds)}" + (notes.number(cell.remark) if cell.remark else "")


def _time(milliseconds: float) -> str:
    return "< 1" if milliseconds < 1 else f"{milliseconds:.0f}"


def _slow(result: Result) -> str:
    titles = {scenario.key: scenario.title for scenario in SCENARIOS}
    slow = [
        wrapped(
            f"- {_label(client, result)}, {titles[key]}: {cell.milliseconds:.0f} ms; "
            f"the server sent each reply within {max(1, round(cell.slowest_reply))} ms"
        )
        for client, cells in result.cells.items()
        for key, cell in cells.items()
        if cell.passed and cell.milliseconds > SLOW and key != "outside-dead"
    ]
    return "\n## Slower than 100 ms\n\n" + ("".join(slow) or "None.\n")


def _controls(result: Result) -> str:
    rows = [_CONTROLS_HEAD]
    for control in CONTROLS:
        found = result.noticed.get(control.fault, {})
        groups = (
            [client for client, reason in found.items() if reason and client.key in control.hurts],
            [client for client, reason in found.items() if reason and client.key not in control.hurts],
            [client for client, reason in found.items() if not reason],
        )
        lists = [_names(group, found) for group in groups[:2]] + [str(len(groups[2]))]
        rows.append(f"| {FAULTS[control.fault].tells} | " + " | ".join(lists) + " |\n")
    return "".join(rows)


def _names(group: Collection[Client], clients: Collection[Client]) -> str:
    """The names of ``group``, with one name for a whole family of C libraries."""
    if not group or len(group) == len(clients):
        return "all" if group else "none"
    names: list[str] = []
    for family, members in groupby(group, key=lambda client: client.family):
        ours = list(members)
        is_whole = family in (MUSL, GLIBC) and len(ours) == sum(client.family == family for client in clients)
        names += [f"{family} (all)"] if is_whole else [client.key if family == MUSL else client.name for client in ours]
    return ", ".join(names)


def _not_to_be_had(result: Result) -> str:
    lines = ["\n## Clients that were not run\n\n"]
    lines += [wrapped(f"- {client.name}: {reason}.") for client, reason in result.missing.items()]
    lines += [wrapped(f"- {name}: {reason}.") for name, reason in NOT_TO_BE_HAD.items()]
    return "".join(lines)


def wrapped(item: str, indent: str = "  ") -> str:
    """``item`` of a list as lines that fit the page."""
    return textwrap.fill(item, 118, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) + "\n"
