"""What the store and the model raise during an attach or a detach, as errors of the agent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from agent.errors import BadRequest, NotNow, NotThere, Refused
from store.errors import LeaseNotHeld, RevisionConflict, Unavailable
from zones.errors import Invalid, Missing, ZonesError


@contextlib.contextmanager
def as_agent_errors() -> Iterator[None]:
    """Turns the errors of the store and of the model into the `AgentError` that says what the caller should do."""
    try:
        yield
    except Unavailable as error:
        raise NotNow(f"{error}: nothing that is attached changes meanwhile; try again") from error
    except LeaseNotHeld as error:
        raise NotNow(f"{error}: 'interlock mesh' says which agent is this host") from error
    except RevisionConflict as error:
        raise NotNow(f"{error}, at every one of several attempts: try again") from error
    except Missing as error:
        raise NotThere(str(error)) from error
    except Invalid as error:
        raise BadRequest(str(error)) from error
    except ZonesError as error:
        raise Refused(str(error)) from error
