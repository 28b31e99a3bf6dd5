"""What can go wrong on a host, sorted by what the caller should do about it. ``kind`` is what the socket calls it."""


class AgentError(Exception):
    """Base of this folder. Its text is one line that says what is wrong and what to do."""

    kind = "failed"


class BadRequest(AgentError):
    """What was asked for cannot be read, or breaks a rule."""

    kind = "invalid"


class Refused(AgentError):
    """It is well formed, but this host will not do it."""

    kind = "refused"


class NotThere(AgentError):
    """What was named does not exist: an environment, a service, a network namespace, an attachment."""

    kind = "missing"


class NotNow(AgentError):
    """The store is away, or this host has not loaded yet: try again."""

    kind = "unavailable"


class Failed(AgentError):
    """The system did not do what it was told: a device, a rule, a look-up."""


class Stuck(Failed):
    """A part of the system did not answer in time."""


class CannotStart(AgentError):
    """The agent cannot run here as it is set up."""
