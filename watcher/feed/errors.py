"""What can go wrong with the feed, sorted by what the caller should do about it."""


class FeedError(Exception):
    """Base of this folder's errors."""


class FeedUnusable(FeedError):
    """The agent cannot listen on the feed's socket; the message says what to do."""


class FeedBroken(FeedError):
    """The other end of the feed does not keep to the protocol: close the connection."""
