"""Errors of the server and of its client. A fault in a query is no exception but a reply."""


class ResolverError(Exception):
    """Base of this package's errors."""


class AskError(ResolverError):
    """The server that was asked gave no usable answer; the message is one line that says why."""
