"""What a page can look at, and who may: the same rule as for the routes of the API."""

from __future__ import annotations

from collections.abc import Mapping

from admin.auth.access import Access, authorize
from admin.auth.actors import Actor
from admin.errors import Malformed

TOPICS: Mapping[str, Access] = {
    # a topic, or what stands before the "/" and the environment in it
    "overview": Access.ROOT,
    "environments": Access.ROOT,
    "environment": Access.INSIDE,
    "mesh": Access.ROOT,
}
MOST_TOPICS = 16  # of one page


def read_topics(text: str, actor: Actor) -> frozenset[str]:
    """The topics in ``text``, separated by commas. Raises `Malformed`, and `Forbidden` if ``actor`` may not see one."""
    topics = frozenset(filter(None, text.split(",")))
    if not topics or len(topics) > MOST_TOPICS:
        raise Malformed(f"name 1 to {MOST_TOPICS} topics", field="topics")
    for topic in topics:
        kind, _, environment = topic.partition("/")
        access = TOPICS.get(kind)
        if access is None or (access is Access.INSIDE) != bool(environment):
            raise Malformed(f"there is no topic {topic[:80]!r}: reload the page", field="topics")
        authorize(actor, access, environment or None)
    return topics
