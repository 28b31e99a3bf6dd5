"""The address that a host expects for a workload before it is recorded."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from agent.attach.attachment import Attachment, Phase
from agent.attach.expected import expected_address
from tests.agent.worlds import ATTACHMENT, address, environment
from zones.model import Environment

NEW = replace(ATTACHMENT, instance="new", phase=Phase.ATTACHING, address=None)


def test_a_new_instance_has_the_next_address_of_its_service() -> None:
    assert expected_address(NEW, environment(1, [1, 2]), "h1", [NEW]) == address(1, 3)


def test_what_other_attaches_of_this_host_expect_is_left_to_them() -> None:
    """They may be connected, and not recorded yet."""
    others = [replace(ATTACHMENT, instance=f"b{at}", address=address(1, at)) for at in (3, 4)]
    assert expected_address(NEW, environment(1, [1, 2]), "h1", others) == address(1, 5)
    of_another = replace(others[0], environment=environment(2, []).id, address=address(2, 9))
    assert expected_address(NEW, environment(1, [1, 2]), "h1", [of_another]) == address(1, 3)


@pytest.mark.parametrize("host", [None, "h1"])
def test_an_instance_that_exists_has_its_own(host: str | None) -> None:
    known = environment(1, [1])
    service = known.services["api"]
    instances = {"new": replace(service.instances["a1"], host=host)}
    known = replace(known, services={"api": replace(service, instances=instances)})
    assert expected_address(NEW, known, "h1", []) == address(1, 1)


@pytest.mark.parametrize(
    ("wanted", "known"),
    [
        (NEW, None),  # it is the first of this environment here: other hosts are not known to it
        (NEW, replace(environment(1, [1]), enabled=False)),
        (replace(NEW, service="web"), environment(1, [1])),  # the record will say that there is no such service
        (replace(NEW, instance="a1"), environment(1, [2])),  # it is on another host
    ],
)
def test_what_is_to_be_recorded_first(wanted: Attachment, known: Environment | None) -> None:
    assert expected_address(wanted, known, "h1", []) is None
