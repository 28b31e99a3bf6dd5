"""``interlock apply`` and ``interlock export``: environments as a YAML document."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from interlock.client import Client
from interlock.commands.deleting import CONFIRMED, confirm
from interlock.commands.names import environments
from interlock.commands.options import API, takes
from interlock.commands.output import json_option, paint, show
from interlock.commands.places import MISSING, whole_environments
from interlock.commands.waiting import wait_for_hosts, wait_option
from interlock.errors import ApiRefused, BadManifest
from interlock.manifest.difference import Change, difference
from interlock.manifest.wanted import Wanted, wanted
from interlock.manifest.written import written
from interlock.settings.table import Settings

STDIN = "-"
AT_ONCE = 1000  # edits of one batch, the most that the API takes
COLOURS = {"+": "green", "~": "yellow", "-": "red"}
WORDS = {"+": "create", "~": "change", "-": "delete"}


@click.command()
@click.option("-f", "--file", metavar="FILE", required=True, help="The YAML document; - for standard input.")
@click.option("--dry-run", is_flag=True, help="Show the difference, and change nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask, however much is deleted.")
@wait_option
@takes(*API)
@json_option
def apply(file: str, dry_run: bool, yes: bool, wait: bool, settings: Settings, as_json: bool) -> None:
    """Make environments as a document says: show the difference, ask, and change them, each in one commit.

    'interlock export' prints such a document. What it leaves out stays as it is; of what it gives, what is not in it is
    deleted. Applied again, it changes nothing. Instances on hosts belong to their agents, and are left alone.
    """
    text, name = _read(file)
    plans = [_Plan(Client.of(settings), one, name) for one in wanted(text, name)]
    differing = [plan for plan in plans if plan.changes]
    if not as_json:
        for plan in differing:
            plan.show()
        click.echo(_summary(differing), err=bool(differing) and not dry_run)
    if differing and not dry_run:
        agreed = confirm("Apply this?", yes=yes)
        for plan in differing:
            revision = plan.carry_out(agreed=agreed)
            if wait:
                wait_for_hosts(plan.client, plan.wanted.id, revision)
            if not as_json:
                click.echo(f"{plan.wanted.id} is at revision {revision}")
    result = {"applied": not dry_run, "environments": [plan.described() for plan in plans]}
    if as_json:
        show(result, as_json, lambda _: None)


@click.command()
@click.argument("ids", metavar="[ENVIRONMENT]...", nargs=-1, shell_complete=environments)
@takes(*API)
@json_option
def export(ids: Sequence[str], settings: Settings, as_json: bool) -> None:
    """Print environments, by default all of them, as a document that 'interlock apply' takes."""
    client = Client.of(settings)
    found = [client.get("environments", one) for one in ids] if ids else list(whole_environments(client))
    show({"environments": found}, as_json, lambda _: click.echo(written(found), nl=False))


class _Plan:
    """What has to be done about one environment, and doing it."""

    def __init__(self, client: Client, wanted_: Wanted, file: str) -> None:
        self.client, self.wanted, self._file = client, wanted_, file
        self._tag = ""  # none: it is to be created
        try:
            actual, self._tag = client.get_tagged("environments", wanted_.id)
        except ApiRefused as refusal:
            if refusal.kind != MISSING:
                raise
            actual = None
        self.changes = difference(wanted_, actual)

    def show(self) -> None:
        """Prints the changes."""
        click.echo(paint(self.wanted.id, bold=True))
        for one in self.changes:
            line = f"  {one.sign} {one.what}" + (f": {one.detail}" if one.detail else "")
            click.echo(paint(line, fg=COLOURS[one.sign]))

    def described(self) -> dict[str, Any]:
        """The changes, for programs."""
        changes = [{"change": WORDS[one.sign], "what": one.what, "detail": one.detail} for one in self.changes]
        return {"id": self.wanted.id, "changes": changes}

    def carry_out(self, *, agreed: bool) -> int:
        """Makes the changes, if the environment is still as it was compared; gives its revision."""
        own, edits = [one for one in self.changes if not one.edit], [one for one in self.changes if one.edit]
        path, revision = ("environments", self.wanted.id), 0
        if own:
            revision = self._send(own[:1], lambda tags: self._put(path, tags))
        for start in range(0, len(edits), AT_ONCE):
            some = edits[start : start + AT_ONCE]
            body = {"edits": [one.edit for one in some]}
            query = CONFIRMED if agreed else None
            revision = self._send(
                some,
                lambda tags, body=body, query=query: self.client.post(
                    *path, "batch", body=body, query=query, if_match=self._tag, tags=tags
                ),
            )
        return revision

    def _put(self, path: tuple[str, ...], tags: list[str]) -> Any:
        fields = dict(self.wanted.fields)
        return self.client.put(*path, body=fields, only_new=not self._tag, if_match=self._tag, tags=tags)

    def _send(self, some: Sequence[Change], send: Any) -> int:
        """Sends what makes ``some`` changes. An error of the API names the line of the change that it is about."""
        tags: list[str] = []
        try:
            reply: Mapping[str, Any] = send(tags)
        except ApiRefused as refusal:
            line = some[_index(refusal.field, len(some))].line
            message = f"{self._file}, line {line}: {refusal}"
            raise ApiRefused(message, refusal.status, refusal.kind, refusal.field) from None
        self._tag = tags[0]
        return int(reply["revision"])


def _index(field: str, number: int) -> int:
    """Which of ``number`` edits the ``field`` of a problem is in: that of ``edits[3].values`` is in the one at 3."""
    text = field.removeprefix("edits[").partition("]")[0]
    return min(int(text), number - 1) if field.startswith("edits[") and text.isdigit() else 0


def _summary(differing: Sequence[_Plan]) -> str:
    signs = [one.sign for plan in differing for one in plan.changes]
    if not signs:
        return "nothing to change"
    return ", ".join(f"{signs.count(sign)} to {word}" for sign, word in WORDS.items() if sign in signs)


def _read(file: str) -> tuple[str, str]:
    """The text of the document, and what messages call it."""
    try:
        if file == STDIN:
            return sys.stdin.read(), "standard input"
        return Path(file).read_text("utf-8"), file
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise BadManifest(f"{file} cannot be read: {reason}") from None
