"""``interlock peer``: external peers, which are machines elsewhere that join an environment through one host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from admin.wgquick import Form, with_private_key
from interlock.client import Client
from interlock.commands.deleting import delete_part, show_deleted, yes_option
from interlock.commands.groups import Noun
from interlock.commands.names import hosts, peers
from interlock.commands.options import takes
from interlock.commands.output import json_option, show, table
from interlock.commands.places import all_option, columns, lists
from interlock.commands.target import SETTINGS, Target
from interlock.commands.waiting import wait_option
from interlock.errors import ApiRefused, ApiUnreachable, InterlockError, Unfinished
from interlock.process.private_file import private_file
from interlock.settings.table import Settings

if TYPE_CHECKING:
    from agent.keys import PrivateKey

COLUMNS = ("id", "address", "gateway", "public_key")

PRECONDITION_FAILED = 412  # RFC 9110 §15.5.13
FORMS: tuple[str, ...] = get_args(Form)


_id = click.argument("id_", metavar="PEER", shell_complete=peers)


@click.group(cls=Noun)
def peer() -> None:
    """External peers of an environment: list, get, create, config, delete."""


@peer.command()
@click.argument("id_", metavar="PEER")
@click.option(
    "--gateway",
    metavar="HOST",
    shell_complete=hosts,
    help="The host that its tunnel ends at; by default one is chosen.",
)
@click.option(
    "--public-key",
    metavar="KEY",
    help="The public key of a key pair that exists already; by default a key pair is made.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the file here, readable by this user alone; by default to standard output.",
)
@click.option(
    "--qr/--no-qr", default=True, help="End the file with a QR code, in comments, for the WireGuard app of a phone."
)
@click.option("--force", is_flag=True, help="Give an existing peer a new key pair, and overwrite FILE.")
@takes(*SETTINGS)
@json_option
def create(
    id_: str,
    gateway: str | None,
    public_key: str | None,
    output: Path | None,
    qr: bool,
    force: bool,
    settings: Settings,
    as_json: bool,
) -> None:
    """Add a machine to an environment, and print the file for 'wg-quick up FILE' on that machine.

    The key pair is made here, and the private key is stored nowhere but in the file. An existing peer gets another
    gateway with --gateway, and with --public-key and the key that it has.
    """
    from agent.keys import PrivateKey  # imported here: cryptography takes longer to load than most commands to run

    client, environment = Target.of(settings)
    key = None if public_key else PrivateKey.generate()
    body = {"public_key": key.public if key else public_key} | ({"gateway": gateway} if gateway else {})
    path = ("environments", environment, "peers", id_)
    with private_file(output, overwrite=force) if output else nullcontext() as file:
        made = _put(client, path, body, only_new=key is not None and not force)
        with _errors_say_that_it_was_added(id_, key):
            text = _file(client, path, key, qr=qr)
            if file:
                file.write(click.unstyle(text).encode())
                file.flush()
    where = {"file": str(output)} if output else {"config": click.unstyle(text)}
    show(made | where, as_json, lambda _: click.echo(f"wrote {output}\n" if output else text, nl=False))


@peer.command("list")
@all_option
@takes(*SETTINGS)
@json_option
def list_(everywhere: bool, settings: Settings, as_json: bool) -> None:
    """List the peers."""
    found = lists(settings, "peers", everywhere=everywhere)
    show(found, as_json, lambda value: table(value["peers"], columns(COLUMNS, everywhere=everywhere)))


@peer.command()
@_id
@takes(*SETTINGS)
@json_option
def get(id_: str, settings: Settings, as_json: bool) -> None:
    """Show one peer."""
    client, environment = Target.of(settings)
    found = client.get("environments", environment, "peers", id_)
    show(found, as_json, lambda value: table([value], COLUMNS))


@peer.command()
@_id
@click.option(
    "--form",
    type=click.Choice(FORMS),
    default=FORMS[0],
    show_default=True,
    help="The reader of the file: wg-quick, or the WireGuard app.",
)
@takes(*SETTINGS)
@json_option
def config(id_: str, form: str, settings: Settings, as_json: bool) -> None:
    """Print a peer's file, with its present gateway, and with a placeholder for the private key."""
    client, environment = Target.of(settings)
    text = client.get_text("environments", environment, "peers", id_, "config", query={"form": form})
    show({"id": id_, "config": text}, as_json, lambda _: click.echo(text, nl=False))


@peer.command()
@_id
@yes_option
@wait_option
@takes(*SETTINGS)
@json_option
def delete(id_: str, yes: bool, wait: bool, settings: Settings, as_json: bool) -> None:
    """Delete a peer, which cuts its machine off at once; its address is never given to another."""
    client, environment = Target.of(settings)
    path = ("environments", environment, "peers", id_)
    what = f"the peer {id_} of {environment}"
    client.get(*path)  # so that nobody is asked about one that there is not
    delete_part(client, path, what, {}, yes=yes, wait=wait)
    show_deleted(what, {}, as_json, environment=environment, peer=id_)


def _put(client: Client, path: tuple[str, ...], body: dict[str, Any], *, only_new: bool) -> Any:
    try:
        return client.put(*path, body=body, only_new=only_new)
    except ApiRefused as refused:
        if refused.status != PRECONDITION_FAILED:
            raise
        id_ = path[-1]
        raise ApiRefused(
            f"{id_!r} is a peer already, and its private key is only in the file that was made then: 'interlock peer"
            f" config {id_}' prints the rest; --force gives it a new key pair, and the old one no longer connects",
            refused.status,
        ) from None


@contextmanager
def _errors_say_that_it_was_added(id_: str, key: PrivateKey | None) -> Iterator[None]:
    """Makes an error in the block say that the peer was added, and how to get its file nevertheless."""
    try:
        yield
    except (InterlockError, OSError) as error:
        reason = error if isinstance(error, InterlockError) else error.strerror
        remedy = (
            "create it again with --force, which gives it a new key pair" if key else f"'interlock peer config {id_}'"
        )
        raise Unfinished(f"{id_!r} is a peer now, but its file cannot be made: {reason}: {remedy}") from None


def _file(client: Client, path: tuple[str, ...], key: PrivateKey | None, *, qr: bool) -> str:
    text = _config(client, path, "wg-quick", key)
    if not (key and qr):
        return text
    from interlock.commands.qr import draw

    code = draw(_config(client, path, "app", key))
    return text + "\n# for the WireGuard app of a phone:\n" + "".join(f"# {line}\n" for line in code.splitlines())


def _config(client: Client, path: tuple[str, ...], form: Form, key: PrivateKey | None) -> str:
    text = client.get_text(*path, "config", query={"form": form})
    try:
        return with_private_key(text, key.text) if key else text
    except ValueError as error:
        raise ApiUnreachable(f"what {client.url} answers cannot be used: {error}") from None
