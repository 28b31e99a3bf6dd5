"""What can go wrong in a session."""


class SessionError(Exception):
    """Base of this folder's errors."""


class SessionBroken(SessionError):
    """The other end sent what is no message: the session ends."""


class BadToken(SessionError):
    """The text is no enrolment token."""
