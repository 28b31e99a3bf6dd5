"""What the control plane raises during an attach or a detach, as errors of the agent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from agent.control_plane.errors import Conflict, ControlPlaneError, Invalid, LeaseLost, Missing, Unavailable
from agent.errors import BadRequest, NotNow, NotThere, Refused


@contextlib.contextmanager
def as_agent_errors() -> Iterator[None]:
    """Turns the errors of the control plane into the `AgentError` that says what the caller should do."""
    try:
        yield
    except Unavailable as error:
        raise NotNow(f"{error}: nothing that is attached changes meanwhile; try again") from error
    except LeaseLost as error:
        raise NotNow(f"{error}: 'interlock mesh' says which agent is this host") from error
    except Conflict as error:
        raise NotNow(f"{error}: try again") from error
    except Missing as error:
        raise NotThere(str(error)) from error
    except Invalid as error:
        raise BadRequest(str(error)) from error
    except ControlPlaneError as error:
        raise Refused(str(error)) from error
