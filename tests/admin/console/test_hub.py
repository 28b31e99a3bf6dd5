"""The hub: everybody who looks is sent what happens, nobody more than they can take, and no break hides a loss."""

from __future__ import annotations

import json

import pytest

from admin.console import hub as hubs
from admin.console.hub import MISSED, MOST_KEPT, MOST_PENDING, Hub, encode_event
from admin.errors import TooManyViewers


def names_and_data(sent: bytes) -> list[tuple[str, str]]:
    found = []
    for block in sent.decode().split("\n\n")[:-1]:
        fields = [line.partition(": ") for line in block.split("\n")]
        name = next(value for field, _, value in fields if field == "event")
        found.append((name, "\n".join(value for field, _, value in fields if field == "data")))
    return found


def last_id(sent: bytes) -> str:
    return [line for line in sent.decode().split("\n") if line.startswith("id: ")][-1].removeprefix("id: ")


def test_of_what_is_so_now_a_slow_viewer_gets_the_newest_alone() -> None:
    hub = Hub()
    slow, other = hub.open(["overview"]), hub.open(["environments"])
    for number in range(10_000):
        hub.publish("overview", str(number))
    assert names_and_data(slow.take()) == [("overview", "9999")]
    assert other.take() == b""


def test_of_a_series_a_slow_viewer_misses_the_oldest_and_is_told_how_many() -> None:
    hub = Hub()
    slow = hub.open(["log"])
    for number in range(MOST_PENDING + 7):
        hub.append("log", str(number))
    (name, missed), *others = names_and_data(slow.take())
    assert (name, json.loads(missed)) == (MISSED, {"topic": "log", "count": 7})
    assert others == [("log", str(number)) for number in range(7, MOST_PENDING + 7)]


def test_whoever_comes_back_is_sent_what_they_missed() -> None:
    hub = Hub()
    viewer = hub.open(["log"])
    hub.append("log", "a")
    seen = last_id(viewer.take())
    hub.close(viewer)
    hub.append("log", "b")
    hub.append("log", "c")
    assert names_and_data(hub.open(["log"], seen).take()) == [("log", "b"), ("log", "c")]


@pytest.mark.parametrize("after", ["other-1", "nonsense", "x-y"])
def test_whoever_comes_from_another_control_plane_is_told_that_something_may_be_missing(after: str) -> None:
    hub = Hub()
    hub.close(first := hub.open(["log"]))
    hub.open(["log"])
    hub.append("log", "a")
    assert names_and_data(hub.open(["log"], after).take())[0][0] == MISSED
    assert first.take() == b""


def test_whoever_was_away_too_long_is_told_that_something_is_missing() -> None:
    hub = Hub()
    viewer = hub.open(["log"])
    hub.append("log", "a")
    seen = last_id(viewer.take())
    for number in range(MOST_KEPT + 1):
        hub.append("log", str(number))
    (name, _), *others = names_and_data(hub.open(["log"], seen).take())
    assert name == MISSED
    assert len(others) == MOST_KEPT


def test_nothing_is_made_or_kept_for_nobody() -> None:
    hub = Hub()
    hub.append("log", "a")
    hub.publish("overview", "a")
    assert hub.open(["log", "overview"], "x-0").take() == b""
    assert set(hub.topics) == {"log", "overview"}


def test_a_viewer_who_goes_takes_the_topic_along() -> None:
    hub = Hub()
    one, other = hub.open(["overview"]), hub.open(["overview", "log"])
    hub.close(one)
    assert set(hub.topics) == {"overview", "log"}
    hub.close(other)
    assert set(hub.topics) == set()


def test_a_topic_opens_with_what_is_so_now() -> None:
    hub = Hub(openings={"environment": lambda topic: f"now of {topic}"})
    assert names_and_data(hub.open(["environment/demo"]).take()) == [("environment/demo", "now of environment/demo")]


def test_there_are_as_many_viewers_as_a_process_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "MOST_VIEWERS", 2)
    hub = Hub()
    first = hub.open(["log"])
    hub.open(["log"])
    with pytest.raises(TooManyViewers):
        hub.open(["log"])
    hub.close(first)
    hub.open(["log"])


def test_no_data_is_another_field_or_another_event() -> None:
    hostile = "x\n\nevent: overview\ndata: forged\rid: 7\r\nretry: 1"
    assert names_and_data(encode_event("log", hostile)) == [
        ("log", "x\n\nevent: overview\ndata: forged\nid: 7\nretry: 1")
    ]


def test_an_event_is_made_once_for_two_hundred_viewers(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, ...]] = []

    def note(*parts: str) -> bytes:
        made.append(parts)
        return encode_event(*parts)

    monkeypatch.setattr(hubs, "encode_event", note)
    hub = Hub()
    viewers = [hub.open(["overview"]) for _ in range(200)]
    hub.publish("overview", "now")
    assert len(made) == 1
    assert {viewer.take() for viewer in viewers} == {encode_event(*made[0])}
