"""The errors that are the API's own, sorted by whose fault they are.

Errors about the model are in `zones.errors`, errors of the store in `store.errors`. The table in `admin.http.problems`
turns all of them into replies.
"""


class AdminError(Exception):
    """Base of the errors of this package."""


class Unauthenticated(AdminError):
    """The request has no valid token; ``presented`` says whether it had an ``Authorization`` header at all."""

    def __init__(self, message: str, *, presented: bool) -> None:
        super().__init__(message)
        self.presented = presented


class Forbidden(AdminError):
    """The token is valid, but does not allow this request."""


class Malformed(AdminError):
    """The request cannot be read; ``field`` names the part that is wrong, ``""`` stands for the whole request."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UnsupportedMediaType(AdminError):
    """The body is not JSON, or its ``Content-Type`` does not say that it is."""


class PreconditionFailed(AdminError):
    """The state is not what ``If-Match`` or ``If-None-Match`` demands."""


class MassWithdrawal(AdminError):
    """The write deletes very much, which may be a mistake; the client has to say that it is none."""


class RateLimited(AdminError):
    """The client sent too many requests; its next one will be accepted after ``wait`` seconds."""

    def __init__(self, message: str, *, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


class TooManyViewers(AdminError):
    """As many people look at this control plane in a browser as it serves."""


class SlowBody(AdminError):
    """The client did not send its body in time."""


class TimedOut(AdminError):
    """The server did not finish the request in time."""


class BadTokenFile(AdminError):
    """The file of the root token cannot be trusted."""
