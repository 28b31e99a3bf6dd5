"""Whom the commands of this host ask: its agent, by the socket in its directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.control.client import NoAgent, Refusal, ask, ask_until_ready
from interlock.errors import AgentRefused, AgentSilent, BadSetting
from interlock.settings.table import Settings


def ask_agent(settings: Settings, op: str, *, until_ready: bool = False, **fields: Any) -> dict[str, Any]:
    """What the agent of this host answers to the request ``op``; ``until_ready`` gives one that restarts some time.

    Raises `AgentSilent` and `AgentRefused`.
    """
    if settings.agent_dir is None:
        raise BadSetting("where are the agent's sockets? give --agent-dir or set INTERLOCK_AGENT_DIR")
    request: Mapping[str, Any] = {"op": op, **{name: value for name, value in fields.items() if value is not None}}
    try:
        return (ask_until_ready if until_ready else ask)(settings.agent_dir, request)
    except NoAgent as error:
        raise AgentSilent(str(error)) from None
    except Refusal as error:
        raise AgentRefused(str(error)) from None
