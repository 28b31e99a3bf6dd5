"""What the store, the attachments and the links of a host say differently: every combination has its outcome."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from agent.attach.attachment import Attachment, Phase
from agent.attach.differences import Absent, Difference, Leftover, Unattached, Unrecorded, compare
from tests.agent.worlds import ATTACHMENT, address, environment
from zones.model import Environment, State

HERE = environment(1, [1])  # its instance a1 is on h1, which is ATTACHMENT's
ELSEWHERE = environment(1, [2])
NOWHERE = environment(1, [])
LINK = ATTACHMENT.link
OURS, OLD = {LINK: ATTACHMENT.key}, {LINK: ""}  # a link that tells its owner; one of an earlier release


def with_state(state: State) -> Environment:
    service = HERE.services["api"]
    instance = replace(service.instances["a1"], state=state)
    return replace(HERE, services={"api": replace(service, instances={"a1": instance})})


def renamed() -> Environment:
    return replace(HERE, services={"web": replace(HERE.services["api"], former_names={"api": 2**53})})


UNATTACHED = Unattached(HERE.id, "api", "a1", address(1, 1), LINK)


def replace_link(link: str) -> Unattached:
    return dataclasses.replace(UNATTACHED, link=link)


BEGUN = replace(ATTACHMENT, phase=Phase.ATTACHING, address=None)  # its agent was killed, or hears of its address soon
ABSENT = Absent(HERE.id, "api", "a1", address(1, 1))


@pytest.mark.parametrize(
    ("environment_", "attachments", "links", "expected"),
    [
        (HERE, [ATTACHMENT], OURS, []),
        (HERE, [ATTACHMENT], {}, []),  # upkeep looks after a link that is lost
        (HERE, [], OURS, [UNATTACHED]),
        (HERE, [], {}, [ABSENT]),
        (HERE, [BEGUN], OURS, []),
        (renamed(), [BEGUN], {}, []),
        (with_state(State.STARTING), [], {}, []),
        (with_state(State.STARTING), [], OURS, [UNATTACHED]),
        (with_state(State.DRAINING), [], {}, []),
        (renamed(), [ATTACHMENT], OURS, []),
        (renamed(), [], OURS, [UNATTACHED]),  # its link has the former name
        (ELSEWHERE, [], {}, []),
        (ELSEWHERE, [ATTACHMENT], OURS, [Unrecorded(ATTACHMENT)]),
        (NOWHERE, [ATTACHMENT], OURS, [Unrecorded(ATTACHMENT)]),
        (NOWHERE, [replace(ATTACHMENT, phase=Phase.ATTACHING)], OURS, []),
        (NOWHERE, [replace(ATTACHMENT, phase=Phase.DETACHING)], {}, []),
        (NOWHERE, [], OURS, [Leftover(LINK)]),
        (HERE, [], OLD, [UNATTACHED]),
        (HERE, [], {"rail1": ATTACHMENT.key}, [replace_link("rail1")]),
        (HERE, [], {LINK: "e2.api.a1"}, [ABSENT, Leftover(LINK)]),  # of another workload, whose hash is the same
        (HERE, [ATTACHMENT], {**OURS, "rail1": ""}, [Leftover("rail1")]),
    ],
)
def test_each_combination(
    environment_: Environment, attachments: list[Attachment], links: dict[str, str], expected: list[Difference]
) -> None:
    assert compare("h1", {HERE.id: environment_}, attachments, links) == expected


def test_an_environment_that_is_not_published_has_no_instance_here() -> None:
    assert compare("h1", {}, [ATTACHMENT], OURS) == [Unrecorded(ATTACHMENT)]


@pytest.mark.parametrize("difference", [UNATTACHED, ABSENT, Unrecorded(ATTACHMENT), Leftover(LINK)])
def test_each_is_a_sentence_that_names_it(difference: Difference) -> None:
    assert ("a1.api of e1" in str(difference)) or (LINK in str(difference))
    assert "\n" not in str(difference)
