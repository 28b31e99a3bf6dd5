"""What can go wrong between agents and the control plane, apart from the errors of the store and of the model."""

from admin.errors import AdminError


class BadAuthority(AdminError):
    """The certificate authority in the store cannot be read."""


class BadRequest(AdminError):
    """The request cannot be read, or breaks a rule: the agent has to change it."""


class NotAllowed(AdminError):
    """The request is well formed, and this host may not do that."""
