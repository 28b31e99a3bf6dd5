"""Deletions: what goes is said first, a person on a terminal is asked, and what was done is printed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from interlock.client import Client
from interlock.commands.output import counted, show
from interlock.commands.waiting import wait_for_hosts
from interlock.errors import ApiRefused

MASS_WITHDRAWAL = "mass-withdrawal"  # the kind of problem that asks for a confirmation
CONFIRMED = {"confirm": "withdrawal"}

yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask, however much goes.")


def confirm(question: str, *, yes: bool) -> bool:
    """Whether a person has agreed: by ``--yes``, or now. Without a terminal nobody is asked, and nobody has agreed.

    Raises ``click.Abort`` where the answer is no.
    """
    if yes or not sys.stdin.isatty():
        return yes
    click.confirm(question, abort=True, err=True)
    return True


def delete_part(
    client: Client, path: tuple[str, ...], what: str, goes: Mapping[str, int], *, yes: bool, wait: bool
) -> None:
    """Deletes the resource at ``path``, which is called ``what``. ``goes`` says how much of each kind goes with it.

    With ``wait``, it returns once all live hosts of the environment know.
    """
    agreed = confirm(f"Delete {what}{with_all(goes)}?", yes=yes)
    try:
        client.delete(*path, query=CONFIRMED if agreed and takes_confirmation(path) else None)
    except ApiRefused as refusal:
        if refusal.kind != MASS_WITHDRAWAL or not sys.stdin.isatty():
            raise
        click.confirm(f"{refusal}\nDelete it?", abort=True, err=True)
        client.delete(*path, query=CONFIRMED)
    if wait:
        place = path[:2]
        wait_for_hosts(client, place[1], client.get(*place, "services", query={"limit": "1"})["revision"])


def takes_confirmation(path: tuple[str, ...]) -> bool:
    """Whether a deletion at ``path`` may be one of very much at once: only that of a service may."""
    return path[2:3] == ("services",) and len(path) == 4


def show_deleted(
    what: str, goes: Mapping[str, int], as_json: bool, note: str = "", until: str = "", **named: Any
) -> None:
    """Prints that ``what`` is deleted; as JSON ``named``, which identifies it, and what went with it.

    ``until`` is the time until when it can be brought back, and ``note`` says how; both are empty where nobody can.
    """
    value: dict[str, Any] = {"deleted": named, "with": {f"{kind}s": number for kind, number in goes.items()}}
    value |= {"until": until} if until else {}
    show(value, as_json, lambda _: click.echo(f"deleted {what}{with_all(goes)}{note and '; ' + note}"))


def with_all(goes: Mapping[str, int]) -> str:
    """What goes along, in words that follow what is deleted: " with 2 services and 1 record"; empty for nothing."""
    parts = [counted(number, kind) for kind, number in goes.items() if number]
    return f" with {', '.join(parts[:-1])}{' and ' * (len(parts) > 1)}{parts[-1]}" if parts else ""
