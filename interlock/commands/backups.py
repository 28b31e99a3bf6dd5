"""``interlock backup`` and ``interlock restore``: all that the store holds, in one file."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interlock.commands.deleting import confirm
from interlock.commands.options import takes
from interlock.commands.output import counted, json_option, show
from interlock.commands.waiting import progress
from interlock.errors import BackupUnusable, StoreUnreachable
from interlock.process.private_file import private_file
from interlock.settings.table import Settings

if TYPE_CHECKING:
    from store.backup import Backup
    from store.store import Store

STORE = ("redis", "redis_prefix", "redis_ca", "state_dir")
LEVEL = 6  # of gzip: more takes several times as long for a few per cent

T = TypeVar("T")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@takes(*STORE, program="admin")
@json_option
def backup(file: Path, force: bool, settings: Settings, as_json: bool) -> None:
    """Write all that the store holds into FILE, of one moment, while everything goes on.

    Environments, hosts with their credentials, digests of tokens, quotas, the platform's certificate authority: who
    reads the file can sign certificates for hosts. So it is readable by this user alone. Tokens and private keys of
    hosts and peers are not in it, for the store does not have them. Without --redis it reads the store of the
    'interlock up' that runs with this --state-dir.
    """
    from store.backup import back_up

    async def write(store: Store) -> None:
        with (
            private_file(file, overwrite=force) as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=LEVEL, filename="") as packed,
        ):
            async for line in back_up(store, version("interlock")):
                packed.write(line)

    with progress(f"backing up to {file}"):
        _with_store(settings, "backup", write)
        made = _read(file)  # from the disk, to the last octet: a backup that cannot be read is none
    show(_described(made) | {"file": str(file)}, as_json, lambda _: click.echo(f"wrote {file}: {_in_words(made)}"))


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--check", is_flag=True, help="Only check the file, and say what it holds.")
@takes(*STORE, program="admin")
@json_option
def restore(file: Path, yes: bool, check: bool, settings: Settings, as_json: bool) -> None:
    """Put the backup in FILE into an empty store. Nobody sees any of it before all of it is there.

    Resolvers and hosts go on with what they serve and the backup lacks, until 'interlock guard confirm'. Without
    --redis the store is that of the 'interlock up' that runs with this --state-dir.
    """
    from store.restoring import damaged
    from store.restoring import restore as put_back

    found = _read(file)
    for one in damaged(found):
        click.echo(f"in the backup as it was: {one}", err=True)
    if not check:
        confirm(f"Restore {_in_words(found)}?", yes=yes)
        with progress(f"restoring {file}"):
            _with_store(settings, "restore", lambda store: put_back(store, found))
    done = "holds" if check else "restored"
    show(
        _described(found) | {"file": str(file), "restored": not check},
        as_json,
        lambda _: click.echo(f"{file} {done}: {_in_words(found)}" if check else f"restored {_in_words(found)}"),
    )


def _with_store(settings: Settings, command: str, work: Callable[[Store], Awaitable[T]]) -> T:
    """What ``work`` gives for the store that ``settings`` name."""
    # Imported here, as in `serve`: other client commands do without the store's client.
    from interlock.parts.store import open_store
    from interlock.programs.required import require_any_store
    from store.errors import StoreError

    async def run() -> T:
        store = open_store(settings, require_any_store(settings, command))
        try:
            return await work(store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except StoreError as error:
        raise StoreUnreachable(str(error)) from None


def _read(file: Path) -> Backup:
    from store.backup import read_backup
    from store.errors import BadBackup

    try:
        with gzip.open(file) as lines:
            return read_backup(iter(lines))
    except BadBackup as error:
        raise BackupUnusable(f"{file}: {error}") from None
    except (OSError, EOFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no backup, or a damaged one"
        raise BackupUnusable(f"{file} cannot be read: {reason}") from None


def _described(found: Backup) -> dict[str, Any]:
    return {
        "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.taken / 1000)),
        "release": found.release,
        "of_one_moment": found.quiet,
        "environments": len(found.documents),
        "hosts": len(found.hashes.get("hosts", {})),
        "tokens": len(found.hashes.get("tokens", {})),
    }


def _in_words(found: Backup) -> str:
    one = _described(found)
    amounts = ", ".join(counted(one[f"{kind}s"], kind) for kind in ("environment", "host", "token"))
    moment = "" if found.quiet else "; the store was never quiet: the environments are whole, and some seconds apart"
    return f"{amounts}, as of {one['taken']}{moment}"
