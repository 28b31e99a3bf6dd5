"""What has changed since the last pass, taken once, and given back by a pass that failed."""

from __future__ import annotations

from agent.mesh.published import Published
from tests.agent.worlds import environment
from zones.hosts import Hosts

ONE, TWO = environment(1, [1]), environment(2, [1])


def test_changes_are_taken_once() -> None:
    published = Published()
    published.put(ONE)
    published.set_hosts(Hosts(7, {}, {}))
    changes = published.take_changes()
    assert (changes.environments, changes.hosts_revision) == ((ONE,), 7)
    assert not published.take_changes()


def test_of_many_documents_of_one_environment_the_newest_is_taken() -> None:
    published = Published()
    newer = environment(1, [1, 2], revision=2)
    published.put(ONE)
    published.put(newer)
    assert published.take_changes().environments == (newer,)


def test_what_a_pass_could_not_apply_is_taken_again_with_what_came_meanwhile() -> None:
    published = Published()
    published.put(ONE)
    published.set_hosts(Hosts(7, {}, {}))
    changes = published.take_changes()
    published.put(TWO)
    published.set_hosts(Hosts(8, {}, {}))
    published.restore(changes)
    again = published.take_changes()
    assert ({one.id for one in again.environments}, again.hosts_revision) == ({ONE.id, TWO.id}, 8)


def test_an_environment_that_is_gone_is_no_change_to_be_applied() -> None:
    published = Published()
    published.put(ONE)
    changes = published.take_changes()
    published.remove(ONE.id)
    published.restore(changes)
    assert published.take_changes().environments == ()
