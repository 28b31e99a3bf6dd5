"""The client of the agent's control socket: sends one JSON object and reads one. Uses the standard library only.

The command line uses it, and so does the CNI plugin. A runtime starts the plugin anew for every container, so it must
start fast: beside its own folder it loads this module and nothing else of the product.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONTROL_SOCKET = "agent.sock"  # in the agent's directory
UNAVAILABLE = "unavailable"  # the kind of a refusal that is worth another try
REPLY_DEADLINE = 60.0  # seconds; longer than anything that the agent itself waits for
RESTART_DEADLINE = 5.0  # seconds; an agent that is being restarted is back by then, and has loaded its environments
RETRY_INTERVAL = 0.1  # seconds between two tries


class NoAgent(Exception):
    """No agent answers on the socket. The text says which socket, and what to do."""


class Refusal(Exception):
    """The agent did not do what it was asked for.

    ``kind`` is the kind of its error: invalid, refused, missing, unavailable or failed.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def ask(directory: Path, request: Mapping[str, Any], deadline: float = REPLY_DEADLINE) -> dict[str, Any]:
    """Sends ``request`` to the agent whose sockets are in ``directory``; gives its answer, within ``deadline`` seconds.

    Raises `NoAgent` and `Refusal`.
    """
    path = directory / CONTROL_SOCKET
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(deadline)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as stream:
                answer = stream.readline()
    except TimeoutError:
        raise NoAgent(f"the agent at {path} has not answered within {deadline:g} s: its log says why") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise NoAgent(
            f"no agent can be asked at {path}: {reason}: does 'interlock agent' run here, and are you root?"
        ) from None
    try:
        result = json.loads(answer)
        is_done = result.pop("ok")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise NoAgent(
            f"the answer at {path} is not an agent's, or the agent ended while it answered: ask again"
        ) from None
    if not is_done:
        raise Refusal(result.get("kind", "failed"), result.get("error", "no reason was given"))
    return dict(result)


def ask_until_ready(directory: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """As `ask`, but tries again for `RESTART_DEADLINE` seconds while the agent is away or not ready.

    Only for requests that may reach the agent twice.
    """
    deadline = time.monotonic() + RESTART_DEADLINE
    while True:
        try:
            return ask(directory, request)
        except (NoAgent, Refusal) as failure:
            may_pass = isinstance(failure, NoAgent) or failure.kind == UNAVAILABLE
            if not may_pass or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_INTERVAL)
