"""How a host expects a workload to be connected, before it is recorded."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from agent.attach.attachment import Attachment, Phase
from agent.attach.expected import expect
from tests.agent.worlds import ATTACHMENT, address, environment
from watcher.session.protocol import Connected
from zones.model import Environment, Instance, State

NEW = replace(ATTACHMENT, instance="new", phase=Phase.ATTACHING, address=None)
BESIDE = ("api", "a1")


def with_instance(before: Environment, id_: str, instance: Instance) -> Environment:
    service = before.services["api"]
    return replace(before, services={"api": replace(service, instances={**service.instances, id_: instance})})


def test_a_new_instance_has_the_next_address_of_its_service() -> None:
    assert expect(NEW, environment(1, [1, 2]), "h1", [ATTACHMENT, NEW]) == Connected(str(address(1, 3)), BESIDE)


def test_what_other_attaches_of_this_host_expect_is_left_to_them() -> None:
    """They may be connected, and not recorded yet."""
    others = [replace(ATTACHMENT, instance=f"b{at}", address=address(1, at)) for at in (3, 4)]
    found = expect(NEW, environment(1, [1, 2]), "h1", [ATTACHMENT, *others])
    assert found == Connected(str(address(1, 5)), BESIDE)
    of_another = replace(others[0], environment=environment(2, []).id, address=address(2, 9))
    found = expect(NEW, environment(1, [1, 2]), "h1", [ATTACHMENT, of_another])
    assert found == Connected(str(address(1, 3)), BESIDE)


@pytest.mark.parametrize("host", [None, "h1"])
def test_an_instance_that_exists_has_its_own(host: str | None) -> None:
    known = with_instance(environment(1, [1, 2]), "new", Instance(address(1, 9), State.STARTING, host))
    assert expect(NEW, known, "h1", [ATTACHMENT]) == Connected(str(address(1, 9)), BESIDE)


@pytest.mark.parametrize(
    ("wanted", "known"),
    [
        (NEW, None),  # it is the first of this environment here: other hosts are not known to it
        (NEW, replace(environment(1, [1]), enabled=False)),
        (replace(NEW, service="web"), environment(1, [1])),  # the record will say that there is no such service
        (replace(NEW, instance="a2"), environment(1, [1, 2])),  # it is on another host
    ],
)
def test_what_is_to_be_recorded_first(wanted: Attachment, known: Environment | None) -> None:
    assert expect(wanted, known, "h1", [ATTACHMENT]) is None


READY = environment(1, [1]).services["api"].instances["a1"]


@pytest.mark.parametrize(
    ("attachment", "instance"),
    [
        (ATTACHMENT, replace(READY, state=State.STARTING)),
        (ATTACHMENT, replace(READY, attached=False)),
        (ATTACHMENT, replace(READY, host="h2")),
        (replace(ATTACHMENT, phase=Phase.DETACHING), READY),
        (replace(ATTACHMENT, instance="a7"), READY),
        (replace(ATTACHMENT, service="web"), READY),
    ],
)
def test_without_a_ready_instance_on_this_host_it_is_recorded_first(attachment: Attachment, instance: Instance) -> None:
    """Nothing shows that this host lets others through to what is new."""
    known = with_instance(environment(1, []), "a1", instance)
    assert expect(NEW, known, "h1", [attachment]) is None
