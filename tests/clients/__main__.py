"""``python -m tests.clients [CLIENT …]``: run the matrix, and write docs/compatibility.md when it was run whole."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.clients import matrix, namespaces
from tests.clients.builds import Build, Unavailable
from tests.clients.matrix import Cell, Ground
from tests.clients.roster import BY_KEY, CLIENTS, Client
from tests.clients.scenarios import SCENARIOS

_AT_ONCE = 2  # clients; more would measure each other


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("client", nargs="*", help=f"one of {', '.join(BY_KEY)}")
    parser.add_argument("--scenario", action="append")
    arguments = parser.parse_args()
    chosen = [BY_KEY[key] for key in arguments.client] or list(CLIENTS)
    namespaces.sweep()
    ready: dict[Client, Build] = {}
    wanted = [s for s in SCENARIOS if not arguments.scenario or s.key in arguments.scenario]
    for client in chosen:
        began = time.monotonic()
        try:
            build = client.make()
        except Unavailable as error:
            print(client, "cannot be had:", error)
            continue
        print(f"{client} {build.version} ({time.monotonic() - began:.1f} s)")
        ready[client] = build
    bad = 0
    with matrix.ground() as where, ThreadPoolExecutor(_AT_ONCE) as threads:
        def one(pair):
            try:
                return pair[0], matrix.run(where, *pair, wanted)
            except Exception as error:
                return pair[0], {"start": Cell(True, str(error)[:3000])}
        for client, cells in threads.map(one, ready.items()):
            for key, cell in cells.items():
                if not cell.passed or cell.remark or cell.milliseconds>100:
                    print(f"  {client} {key}: {'' if cell.applies else 'n/a '}{cell.reason} {cell.remark} q={cell.queries} tcp={cell.tcp} {cell.milliseconds:.1f} ms")
            passed=[c for c in cells.values() if c.passed]
            print(client, len(passed), "of", sum(c.applies for c in cells.values()), f"max {max((c.milliseconds for k,c in cells.items() if c.passed and k!='outside-dead'),default=0):.1f}", flush=True)
    return bad


sys.exit(main())
