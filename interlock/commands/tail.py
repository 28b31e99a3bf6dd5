"""``interlock tail``: look-ups as they happen, from the resolver on this machine, or of all hosts by the admin API."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from interlock.client import Client
from interlock.commands.options import takes
from interlock.commands.output import cell, json_option
from interlock.errors import FilterRefused, ServerSilent
from interlock.process.state_dir import STATE_DIRECTORIES, TAIL_SOCKET
from interlock.settings.table import Settings

NEXT_DEADLINE = 60.0  # seconds until the next resolver has started, also where it has a million instances to load
NEXT_EVERY = 0.1  # seconds


@click.command()
@click.option("--name", metavar="NAME", help="Only names at and below NAME.")
@click.option("--rcode", metavar="RCODE", help="Only answers with RCODE, such as NXDOMAIN.")
@click.option("--failed", is_flag=True, help="Only look-ups that failed: errors and names that do not exist.")
@click.option(
    "--nodata",
    is_flag=True,
    help="Only names that exist and have no records of the type (NODATA); with --failed, failures as well.",
)
@click.option("--hosts", is_flag=True, help="Of all hosts, by the admin API, and not of the resolver on this machine.")
@takes("environment", "state_dir", "api", "token")
@json_option
def tail(
    name: str | None, rcode: str | None, failed: bool, nodata: bool, hosts: bool, settings: Settings, as_json: bool
) -> None:
    """Show look-ups as they happen, and why those fail that do, until Ctrl-C.

    Run it on the resolver's machine, as the resolver's user or as root. The resolver is found by its --state-dir;
    without one, where `interlock up` and the units of deploy/ have theirs. When it ends or is renewed, the next one's
    look-ups follow. With --hosts it runs anywhere, with the token of an environment or an admin token.
    """
    wanted = {"environment": settings.environment, "name": name, "rcode": rcode, "failed": failed, "nodata": nodata}
    for line in _watch_hosts(settings, wanted) if hosts else _watch(_places(settings), wanted):
        if as_json:
            click.echo(json.dumps(line, ensure_ascii=False))
        else:
            click.echo(_describe(line))


def _places(settings: Settings) -> tuple[Path, ...]:
    """The state directories in which a resolver may have its query log, the likeliest first."""
    return (settings.state_dir, *(STATE_DIRECTORIES if settings.is_default("state_dir") else ()))


def _watch(places: Iterable[Path], wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The look-ups of the resolver, and of the one that comes after it when it ends or is renewed."""
    connection = _connect([place / TAIL_SOCKET for place in places])
    path = Path(connection.getpeername())
    while True:
        with connection:
            yield from _lines(connection, wanted)
        click.echo("the resolver has ended, or is renewed: waiting for the next one", err=True)
        connection = _connect_again(path)


def _lines(connection: socket.socket, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(ConnectionError), connection.makefile("rb") as stream:
        connection.sendall(json.dumps(wanted).encode() + b"\n")
        for line in stream:
            if not line.endswith(b"\n"):
                return  # the resolver was killed in the middle of it
            shown = json.loads(line)
            if "error" in shown:
                raise FilterRefused(f"{shown['error']}")
            yield shown


def _watch_hosts(settings: Settings, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The look-ups of all hosts that the control plane hears, and which those are."""
    results = {(True, True): "bad", (True, False): "failed", (False, True): "nodata"}
    result = results.get((wanted["failed"], wanted["nodata"]))
    query = {"name": wanted["name"], "rcode": wanted["rcode"], "result": result}
    path = ("environments", settings.environment, "lookups") if settings.environment else ("lookups",)
    with Client.of(settings).stream(*path, query={key: value for key, value in query.items() if value}) as lines:
        yield from lines


def _connect(paths: Iterable[Path]) -> socket.socket:
    """A connection to the first resolver that listens on one of ``paths``. Raises `ServerSilent`."""
    failures = {}
    for path in paths:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            failures[path] = error
        else:
            return connection
    advice = "start a resolver on this machine, or name its --state-dir"
    if any(isinstance(error, PermissionError) for error in failures.values()):
        advice = "run this as root, or as the resolver's user"
    tried = "; ".join(f"{path}: {error.strerror or error}" for path, error in failures.items())
    raise ServerSilent(f"no resolver has a query log here: {advice} (tried {tried})")


def _connect_again(path: Path) -> socket.socket:
    """A connection to the next resolver that listens on ``path``. Raises `ServerSilent` where none starts."""
    deadline = time.monotonic() + NEXT_DEADLINE
    while True:
        try:
            return _connect([path])
        except ServerSilent:
            if time.monotonic() > deadline:
                raise
        time.sleep(NEXT_EVERY)


def _describe(line: dict[str, Any]) -> str:
    if "left_out" in line:
        return _describe_hosts(line)
    if "time" not in line:  # not a look-up, but a message about the log itself
        return ", ".join(f"{name}: {cell(value)}" for name, value in line.items())
    moment = time.strftime("%H:%M:%S", time.localtime(line["time"]))
    line = {**_DEFAULTS, **line}
    found = ", ".join([*line["aliases"], *line["answers"]]) or "-"
    outcome = "NODATA" if line["nodata"] else line["rcode"]
    scope = line["environment"] or line["scope"]
    where = f"{line['host']} " if line["host"] else ""
    return cell(
        f"{moment} {where}{scope:<16} {line['source']:<24} {line['transport']} {line['name']} {line['type']}"
        f" {outcome} {line['duration_ms']:.3f} ms  {found}{': ' if line['reason'] else ''}{line['reason']}"
    )


_DEFAULTS: dict[str, Any] = {
    # what the API leaves out of a look-up
    "transport": "udp",
    "answers": [],
    "aliases": [],
    "scope": "environment",
    "duration_ms": 0.0,
    "nodata": False,
    "reason": "",
    "host": None,
}


def _describe_hosts(status: dict[str, Any]) -> str:
    """Which hosts are heard, for somebody who reads along."""
    heard = [*status["heard"], *(["the control plane's own resolver"] if status["here"] else [])]
    deaf = [*status["silent"], *status["unheard"]]
    text = f"heard: {', '.join(heard) or 'nobody'}"
    text += f"; not heard: {', '.join(deaf)}" if deaf else ""
    return cell(text + (f"; left out, because there were too many: {status['left_out']}" if status["left_out"] else ""))
