"""``interlock snapshot``: what the processes of this machine would answer from, if they were started in an outage."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from interlock.commands.groups import Noun
from interlock.commands.options import takes
from interlock.commands.output import json_option, show, table
from interlock.errors import NoSnapshot
from interlock.settings.table import Settings
from support.clock import in_words

COLUMNS = ("file", "problem", "environments", "hosts", "age", "octets", "release", "source")


@click.group(cls=Noun, also={"list": "show", "ls": "show"})
def snapshot() -> None:
    """Show the snapshots in the state directory, from which names are answered while a store is away."""


@snapshot.command("show")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@takes("environment", "state_dir")
@json_option
def show_snapshots(files: tuple[Path, ...], settings: Settings, as_json: bool) -> None:
    """Check the snapshots in the state directory, or FILES, to the last octet, and say how old they are.

    Exit status 0: all of them can be used.

    With --environment, print the document of that environment, as each snapshot has it. Run it as the user of the
    process: the files are private.
    """
    # Imported here, as in `serve`: other client commands do without the packages.
    from interlock.parts.snapshot import SUFFIX

    found = files or sorted(settings.state_dir.glob(f"*{SUFFIX}"))
    if not found:
        raise NoSnapshot(
            f"there is no snapshot in {settings.state_dir}: name the --state-dir of a resolver, an agent or 'interlock"
            " up', which writes one some seconds after it has loaded"
        )
    if settings.environment is not None:
        documents = [document for path in found if (document := _document(path, settings.environment))]
        if not documents:
            raise NoSnapshot(f"no snapshot in {settings.state_dir} has the environment {settings.environment!r}")
        show(documents, as_json, lambda value: click.echo(json.dumps(value, indent=2, ensure_ascii=False)))
    else:
        described = [_describe(path) for path in found]
        show(described, as_json, lambda value: table(value, COLUMNS))
        if unusable := sum(bool(one["problem"]) for one in described):
            raise NoSnapshot(f"{unusable} of {len(found)} cannot be used: nothing is answered from such a file")


def _describe(path: Path) -> dict[str, Any]:
    from watcher.errors import SnapshotUnusable
    from watcher.snapshot import open_snapshot

    try:
        opened = open_snapshot(path, sys.maxsize)
    except SnapshotUnusable as error:
        return {"file": str(path), "problem": str(error)}
    if opened is None:
        return {"file": str(path), "problem": "there is no such file"}
    return {
        "file": str(path),
        "problem": "",
        "environments": len(opened.digests),
        "hosts": len(opened.hosts.hosts) if opened.hosts else None,
        "age": in_words(time.time() - opened.confirmed),
        "current_at": opened.confirmed,
        "taken_at": opened.header.taken,
        "octets": opened.octets,
        "release": opened.header.release,
        "source": opened.header.source,
        "epoch": opened.header.epoch,
        "change": opened.header.change,
    }


def _document(path: Path, environment: Any) -> dict[str, Any] | None:
    from watcher.errors import SnapshotUnusable
    from watcher.snapshot import open_snapshot

    try:
        opened = open_snapshot(path, sys.maxsize)
    except SnapshotUnusable:
        return None
    if opened is None or environment not in opened:
        return None
    return {"file": str(path), "document": json.loads(opened.read(environment))}
