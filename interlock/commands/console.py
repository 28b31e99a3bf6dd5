"""``interlock console``: a link that signs a browser in to the console."""

from __future__ import annotations

from typing import Any

import click

from interlock.client import Client
from interlock.commands.options import API, takes
from interlock.commands.output import json_option, show
from interlock.settings.table import Settings
from support.clock import in_words


@click.command()
@click.option("--open", "is_to_open", is_flag=True, help="Open it in the browser of this machine.")
@takes(*API)
@json_option
def console(is_to_open: bool, settings: Settings, as_json: bool) -> None:
    """Print a link that signs a browser in to the console as the holder of this token. It works once, for minutes."""
    link = Client.of(settings).sign_in_link()
    show(link, as_json, _print)
    if is_to_open:
        click.launch(link["url"])


def _print(link: Any) -> None:
    click.echo(link["url"])
    click.echo(f"It signs in once, within {in_words(link['seconds'])}.", err=True)
