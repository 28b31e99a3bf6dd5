"""``python -m tests.clients``: every client through every scenario, and against servers that are wrong on purpose.

Writes docs/compatibility.md. With names of clients or scenarios only those are run, and nothing is written.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.clients import matrix, namespaces, report
from tests.clients.builds import Build, Unavailable
from tests.clients.controls import CONTROLS, Control
from tests.clients.matrix import Cell, Ground
from tests.clients.roster import BY_KEY, CLIENTS, Client
from tests.clients.scenarios import SCENARIOS, Scenario

_AT_ONCE = 2  # clients; more would measure each other
_CONTROLS_AT_ONCE = 2  # servers; their clients mostly wait
_NOTICING_AT_ONCE = 8


def main() -> int:
    arguments = _arguments()
    if reason := matrix.why_not():
        print(f"The matrix cannot be run here: {reason}.", file=sys.stderr)
        return 1
    began = time.monotonic()
    namespaces.sweep()
    clients = [BY_KEY[key] for key in arguments.client] or list(CLIENTS)
    chosen = [scenario for scenario in SCENARIOS if scenario.key in (arguments.scenario or (scenario.key,))]
    builds, missing = _make(clients)
    cells = _run(builds, chosen)
    noticed = {} if arguments.no_controls or arguments.scenario else _notice(builds)
    result = report.Result(builds, missing, cells, noticed, time.monotonic() - began)
    if not arguments.client and not arguments.scenario and not arguments.no_controls:
        report.PATH.write_text(report.render(result))
        print(f"wrote {report.PATH.relative_to(report.ROOT)}")
    faults = [*report.failures(result), *(f"{client} cannot be had: {reason}" for client, reason in missing.items())]
    for line in faults:
        print(line, file=sys.stderr)
    asked = sum(cell.applies for client in cells.values() for cell in client.values())
    print(f"{len(builds)} clients, {asked} look-ups, {time.monotonic() - began:.0f} s")
    return 1 if faults else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("client", nargs="*", choices=[[], *BY_KEY], metavar="CLIENT", help=", ".join(BY_KEY))
    parser.add_argument("--scenario", action="append", choices=[scenario.key for scenario in SCENARIOS])
    parser.add_argument("--no-controls", action="store_true", help="leave out the servers that are wrong on purpose")
    return parser.parse_args()


def _make(clients: Sequence[Client]) -> tuple[dict[Client, Build], dict[Client, str]]:
    def make(client: Client) -> Build | Unavailable:
        began = time.monotonic()
        try:
            build = client.make()
        except Unavailable as error:
            return error
        if time.monotonic() - began > 1:
            print(f"made {client} in {time.monotonic() - began:.0f} s", flush=True)
        return build

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        made = dict(zip(clients, threads.map(make, clients), strict=True))
    builds = {client: build for client, build in made.items() if isinstance(build, Build)}
    return builds, {client: str(error) for client, error in made.items() if isinstance(error, Unavailable)}


def _run(builds: dict[Client, Build], chosen: Sequence[Scenario]) -> dict[Client, dict[str, Cell]]:
    def run(client: Client) -> dict[str, Cell]:
        return matrix.run(where, client, builds[client], chosen)

    cells: dict[Client, dict[str, Cell]] = {}
    with matrix.ground() as where, ThreadPoolExecutor(_AT_ONCE) as threads:
        for client, done in zip(builds, threads.map(run, builds), strict=True):
            cells[client] = done
            passed = sum(cell.passed for cell in done.values())
            print(f"{client}: {passed} of {sum(cell.applies for cell in done.values())}", flush=True)
    return cells


def _notice(builds: dict[Client, Build]) -> dict[str, dict[Client, str]]:
    clients = [client for client in builds if client.key != "sockets"]

    def run(control: Control) -> dict[Client, str]:
        def notice(client: Client) -> str:
            return matrix.notice(where, control, client, builds[client])

        where: Ground
        with matrix.ground(control.fault) as where, ThreadPoolExecutor(_NOTICING_AT_ONCE) as noticing:
            return dict(zip(clients, noticing.map(notice, clients), strict=True))

    noticed: dict[str, dict[Client, str]] = {}
    with ThreadPoolExecutor(_CONTROLS_AT_ONCE) as threads:
        for control, found in zip(CONTROLS, threads.map(run, CONTROLS), strict=True):
            noticed[control.fault] = found
            print(f"wrong on purpose, {control.fault}: {sum(map(bool, found.values()))} notice", flush=True)
    return noticed


if __name__ == "__main__":
    sys.exit(main())
