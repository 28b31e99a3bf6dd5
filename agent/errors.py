"""The errors of the agent, sorted by what the caller should do. ``kind`` is the error's name on the control socket."""


class AgentError(Exception):
    """Base of all errors here. The text is one line that says what is wrong and what to do."""

    kind = "failed"


class BadRequest(AgentError):
    """The request cannot be read, or breaks a rule: change it."""

    kind = "invalid"


class Refused(AgentError):
    """The request is well formed, but this host does not do that, or not in its present state."""

    kind = "refused"


class NotThere(AgentError):
    """Something that the request names does not exist: an environment, a service, a namespace, an attachment."""

    kind = "missing"


class NotNow(AgentError):
    """The control plane is away, or this host has not loaded its environments yet: try again."""

    kind = "unavailable"


class Failed(AgentError):
    """The system did not do what the agent asked of it: a device, a firewall rule, a look-up."""


class Stuck(Failed):
    """A part of the system did not answer in time."""


class LinkGone(Failed):
    """A link has vanished while the agent worked on it, as one does when its namespace ends."""


class PortInUse(Failed):
    """Another program, or another WireGuard device, has the UDP port."""


class CannotStart(AgentError):
    """The agent cannot run on this host with these settings."""
