"""What can go wrong with the feed, sorted by what the caller should do about it."""


class FeedError(Exception):
    """Base of this folder."""


class FeedUnusable(FeedError):
    """The feed's socket cannot be listened on; the message says what to do."""


class FeedBroken(FeedError):
    """The other end of the feed does not keep to the protocol: close the connection."""
