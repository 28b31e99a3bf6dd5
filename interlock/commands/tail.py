"""``interlock tail``: look-ups as they happen, from the query log of the resolver on this machine."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from interlock.commands.options import takes
from interlock.commands.output import cell, json_option
from interlock.errors import FilterRefused, ServerSilent
from interlock.process.state_dir import TAIL_SOCKET
from interlock.settings.table import Settings


@click.command()
@click.option("--name", metavar="NAME", help="Only names at and below NAME.")
@click.option("--rcode", metavar="RCODE", help="Only answers with RCODE, such as NXDOMAIN.")
@click.option("--failed", is_flag=True, help="Only look-ups that failed.")
@takes("environment", "state_dir")
@json_option
def tail(name: str | None, rcode: str | None, failed: bool, settings: Settings, as_json: bool) -> None:
    """Show look-ups as they happen, until Ctrl-C. Run it on the resolver's machine, as the resolver's user."""
    wanted = {"environment": settings.environment, "name": name, "rcode": rcode, "failed": failed}
    for line in _watch(settings.state_dir / TAIL_SOCKET, wanted):
        if as_json:
            click.echo(json.dumps(line, ensure_ascii=False))
        else:
            click.echo(_describe(line))


def _watch(path: Path, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError as error:
            raise ServerSilent(
                f"no resolver has a query log at {path}: {error.strerror or error}: start one, or name its --state-dir"
            ) from None
        connection.sendall(json.dumps(wanted).encode() + b"\n")
        with connection.makefile("rb") as stream:
            for line in map(json.loads, stream):
                if "error" in line:
                    raise FilterRefused(f"{line['error']}")
                yield line


def _describe(line: dict[str, Any]) -> str:
    if "time" not in line:  # not a look-up, but a message about the log itself
        return ", ".join(f"{name}: {cell(value)}" for name, value in line.items())
    moment = time.strftime("%H:%M:%S", time.localtime(line["time"]))
    answers = ", ".join([*line["aliases"], *line["answers"]]) or "-"
    scope = line["environment"] or line["scope"]
    return cell(
        f"{moment} {scope:<16} {line['source']:<24} {line['transport']} {line['name']} {line['type']}"
        f" {line['rcode']} {line['duration_ms']:.3f} ms  {answers}"
    )
