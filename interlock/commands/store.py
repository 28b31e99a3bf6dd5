"""``interlock store``: looks through a store for what is damaged, mends what can be mended, and writes it whole."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import click

from interlock.advice import typed
from interlock.commands.groups import Noun
from interlock.commands.options import takes
from interlock.commands.output import json_option, show, table
from interlock.errors import StoreDamaged, StoreUnreachable
from interlock.settings.table import Settings

COLUMNS = ("what", "problem", "outcome")


@click.group(cls=Noun)
def store() -> None:
    """Look after the store itself; other commands go through the admin API."""


@store.command()
@click.option("--repair", is_flag=True, help="Mend what can be mended without a decision.")
@click.option(
    "--go-back",
    is_flag=True,
    help="With --repair: where acknowledged changes of an environment are gone, take the last revision that can be"
    " read. Addresses that it may have given since are not given again.",
)
@takes("redis", "redis_prefix", "redis_ca", "state_dir", program="admin")
@json_option
def check(repair: bool, go_back: bool, settings: Settings, as_json: bool) -> None:
    """Read all that the store holds and say what is damaged. Exit status 0: nothing is, or all of it is mended.

    Without --redis it reads the store of the 'interlock up' that runs with this --state-dir.
    """
    # Imported here, as in `serve`: other client commands do without the store's client.
    from interlock.parts.store import open_store
    from interlock.programs.required import require_any_store
    from store import check as checking
    from store.errors import StoreError

    url = require_any_store(settings, "store check")

    async def run() -> tuple[list[checking.Finding], int]:
        opened = open_store(settings, url)
        try:
            found = await checking.check(opened, repair=repair, go_back=go_back)
            return found, len(await checking.check(opened)) if repair else len(found)
        finally:
            await opened.close()

    try:
        found, left = asyncio.run(run())
    except StoreError as error:
        raise StoreUnreachable(str(error)) from None
    rows = [asdict(one) | {"outcome": typed(one.outcome)} for one in found]
    show(rows, as_json, lambda rows: table(rows, COLUMNS) if rows else click.echo("all well"))
    if left:
        raise StoreDamaged(f"{left} still damaged: what mends it is in the last column")


@store.command()
@takes("redis", "redis_prefix", "redis_ca", "state_dir", program="admin")
@json_option
def fold(settings: Settings, as_json: bool) -> None:
    """Write each environment whole of which only changes were written, before an older release is to read them.

    Start every control plane with --redis-whole first, else they go on writing changes alone. Without --redis it works
    on the store of the 'interlock up' that runs with this --state-dir.
    """
    from interlock.parts.store import open_store
    from interlock.programs.required import require_any_store
    from store import folding
    from store.errors import StoreError

    url = require_any_store(settings, "store fold")

    async def run() -> list[folding.Folded]:
        opened = open_store(settings, url)
        try:
            return await folding.fold(opened)
        finally:
            await opened.close()

    try:
        found = asyncio.run(run())
    except StoreError as error:
        raise StoreUnreachable(str(error)) from None
    rows = [asdict(one) for one in found]
    show(rows, as_json, lambda rows: table(rows, ("environment", "revision")) if rows else click.echo("all are whole"))
