"""Asking the agent of this host: one JSON object to its local socket, one back. Standard library alone.

The command line asks this way, and so does the CNI plugin, which is started anew for every container: it must be up in
no time, and loads nothing else of the product.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SOCKET = "agent.sock"  # in the agent's directory
UNAVAILABLE = "unavailable"  # the kind of a refusal that may well be none in the next moment
PATIENCE = 60.0  # seconds; above all that the agent itself waits for
RESTART = 5.0  # seconds; an agent that is being restarted is back by then, and has loaded
AGAIN = 0.1  # seconds until it is asked again


class NoAgent(Exception):
    """Nobody answers on the socket: the text says where, and what to do."""


class Refusal(Exception):
    """The agent said no. ``kind`` is that of its error: invalid, refused, missing, unavailable, failed."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def ask(directory: Path, request: Mapping[str, Any], patience: float = PATIENCE) -> dict[str, Any]:
    """What the agent whose sockets are in ``directory`` answers to ``request``, within ``patience`` seconds.

    Raises `NoAgent` and `Refusal`.
    """
    path = directory / SOCKET
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(patience)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as stream:
                answer = stream.readline()
    except TimeoutError:
        raise NoAgent(f"the agent at {path} has not answered within {patience:g} s: its log tells why") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise NoAgent(
            f"no agent can be asked at {path}: {reason}: does 'interlock agent' run here, and are you root?"
        ) from None
    try:
        told = json.loads(answer)
        is_done = told.pop("ok")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise NoAgent(f"what answers at {path} is not the agent, or has ended meanwhile: ask again") from None
    if not is_done:
        raise Refusal(told.get("kind", "failed"), told.get("error", "no reason was given"))
    return dict(told)


def ask_until_ready(directory: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """As `ask`, and asked again for `RESTART` seconds while the agent is away or not ready. For what may come twice."""
    deadline = time.monotonic() + RESTART
    while True:
        try:
            return ask(directory, request)
        except (NoAgent, Refusal) as failure:
            is_worth_it = isinstance(failure, NoAgent) or failure.kind == UNAVAILABLE
            if not is_worth_it or time.monotonic() > deadline:
                raise
        time.sleep(AGAIN)
