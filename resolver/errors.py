"""What can go wrong with the server itself; what goes wrong with a query is a reply."""


class ResolverError(Exception):
    """Base of this folder."""


class AskError(ResolverError):
    """A server that we asked gave no usable answer; the message is one line that says why."""
