"""Requests to the agent of this host, through the control socket in the agent's directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.control.client import NoAgent, Refusal, ask, ask_until_ready
from interlock.errors import AgentRefused, AgentSilent, BadSetting
from interlock.settings.table import Settings


def ask_agent(settings: Settings, op: str, *, until_ready: bool = False, **fields: Any) -> dict[str, Any]:
    """Sends the request ``op`` to the agent of this host and gives its answer.

    ``until_ready`` waits for an agent that is restarting, for a limited time.

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
