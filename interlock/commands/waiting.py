"""Waiting: ``--wait``, and a line on the terminal while something takes more than a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from interlock.client import Client
from interlock.commands.output import is_terminal
from interlock.errors import TookTooLong

PATIENCE = 1.0  # seconds before a line says what is waited for
PAUSE = 0.2  # seconds between two requests that ask whether it is so far
LONGEST = 60.0  # seconds that --wait waits; an agent that needs longer is in trouble
CLEAR = "\r\x1b[K"  # to the beginning of the line, and away with what is on it (ECMA-48)

wait_option = click.option("--wait", is_flag=True, help="Return only once all live hosts of the environment have it.")


@contextmanager
def progress(text: str) -> Iterator[None]:
    """While the block runs longer than `PATIENCE`, a line of the terminal says ``text`` and for how long already."""
    if not is_terminal(err=True):
        yield
        return
    over, began = threading.Event(), time.monotonic()

    def tell() -> None:
        pause = PATIENCE
        while not over.wait(pause):
            click.echo(f"{CLEAR}{text} … {time.monotonic() - began:.0f} s", err=True, nl=False)
            pause = 1.0
        if time.monotonic() - began > PATIENCE:
            click.echo(CLEAR, err=True, nl=False)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def wait_for_hosts(client: Client, environment: str, revision: int, longest: float = LONGEST) -> list[str]:
    """Returns once all live hosts with a member of ``environment`` have programmed ``revision``: which hosts those are.

    Raises `TookTooLong`.
    """
    deadline = time.monotonic() + longest
    with progress(f"waiting until all hosts have revision {revision}"):
        while True:
            found = client.get("environments", environment, "revisions", str(revision))
            if not found["behind"]:
                hosts: list[str] = found["hosts"]
                return hosts
            if time.monotonic() > deadline:
                behind = ", ".join(found["behind"])
                raise TookTooLong(
                    f"revision {revision} of {environment!r} is committed, and after {longest:g} s these hosts do not"
                    f" have it: {behind}: 'interlock mesh' there says why"
                )
            time.sleep(PAUSE)


def committed(client: Client, environment: str, made: Any, *, wait: bool) -> Any:
    """``made``, the reply to a write, once all hosts have its revision where ``wait`` asks for that."""
    if wait:
        wait_for_hosts(client, environment, made["revision"])
    return made


def wait_until_ready(client: Client, place: tuple[str, ...], state: str, longest: float) -> Any:
    """The instance at ``place`` once it has ``state``, on all hosts. Raises `TookTooLong`."""
    deadline = time.monotonic() + longest
    service, id_ = place[3], place[5]
    with progress(f"waiting until {id_!r} of {service!r} is {state}"):
        while (found := client.get(*place))["state"] != state:
            if time.monotonic() > deadline:
                raise TookTooLong(
                    f"{id_!r} of {service!r} is {found['state']} after {longest:g} s, not {state}:"
                    f" 'interlock mesh' on its host says what it waits for"
                )
            time.sleep(PAUSE)
    wait_for_hosts(client, place[1], found["revision"], max(PAUSE, deadline - time.monotonic()))
    return found
