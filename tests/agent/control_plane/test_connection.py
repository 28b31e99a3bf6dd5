"""The connection to the control plane, over real TLS: what is asked and heard, and the faults of control planes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from agent.control_plane import connection
from agent.control_plane.connection import ControlPlane
from agent.control_plane.credential import CredentialFiles, HostKey
from agent.control_plane.errors import LeaseLost, Unavailable
from tests.agent.control_plane.plane import CHALLENGE, Answers, Ear, Plane, Signer, connected, running
from tests.waiting import until
from watcher.session.protocol import (
    REFUSED_CLOSE,
    VERSION,
    Acknowledge,
    Answer,
    Done,
    Failure,
    Hello,
    HostsAre,
    Loaded,
    Renew,
    Renewed,
    Request,
    Wait,
    Waited,
    encode,
)

ASKED = Acknowledge(0, {"production": 3})
NOBODY = "https://127.0.0.1:9"  # a port on which nothing listens


def silent(_: Request) -> Answer | Failure | None:
    return None


def failing(kind: str) -> Answers:
    return lambda request: Failure(request.number, kind, f"it is {kind}")


async def test_requests_are_answered_and_updates_are_heard_in_their_order(
    authority: Signer, files: CredentialFiles, tmp_path: Path
) -> None:
    async with (
        running(Plane(authority, updates=[HostsAre(1), Loaded("e")]), tmp_path) as plane,
        connected(files, plane.url) as (control, ear),
    ):
        assert await control.ask(ASKED, Done) == Done(2)
        assert plane.peers == ["h1"]
        assert plane.requests == [Hello(1, VERSION, "i1", "a test"), Acknowledge(2, ASKED.revisions)]
        assert control.welcome
        assert control.welcome.challenge == CHALLENGE
        await until(lambda: len(ear.updates) == 2)
        await plane.say(HostsAre(2))
        await until(lambda: ear.updates == [HostsAre(1), Loaded("e"), HostsAre(2)])


async def test_answers_come_in_any_order(plane: Plane, files: CredentialFiles) -> None:
    plane.answers = lambda request: None if isinstance(request, Wait) else Done(request.number)
    async with connected(files, plane.url) as (control, _):
        waiting = asyncio.create_task(control.ask(Wait(0, "production", 3, 5.0), Waited))
        assert await control.ask(ASKED, Done)
        (asked,) = [one for one in plane.requests if isinstance(one, Wait)]
        await plane.sockets[0].send_str(encode(Waited(asked.number, ("h2",))).decode())
        assert (await waiting).lagging == ("h2",)


async def test_a_failure_is_the_error_of_its_kind(plane: Plane, files: CredentialFiles) -> None:
    plane.answers = failing("lease")
    async with connected(files, plane.url) as (control, _):
        with pytest.raises(LeaseLost, match="it is lease"):
            await control.ask(ASKED, Done)
        plane.answers = failing("of a later release")
        with pytest.raises(Unavailable, match="it is of a later"):
            await control.ask(ASKED, Done)


async def test_the_time_of_the_store_is_taken_from_renewals(plane: Plane, files: CredentialFiles) -> None:
    ahead = int((time.time() + 3600) * 1000)
    plane.answers = lambda request: Renewed(request.number, ahead)
    async with connected(files, plane.url) as (control, _):
        await control.ask(Renew(0, is_able=True), Renewed)
        assert control.clock.skew == pytest.approx(-3600, abs=60)


# Faults


async def test_without_any_control_plane_requests_fail_at_once_and_say_why(files: CredentialFiles) -> None:
    async with connected(files, NOBODY) as (control, _):
        with pytest.raises(Unavailable, match=r"no control plane can be reached: https://127\.0\.0\.1:9"):
            await control.ask(ASKED, Done)
        assert not control.connected


async def test_a_session_that_is_cut_is_followed_by_one_with_another_and_the_request_is_sent_again(
    authority: Signer, files: CredentialFiles, tmp_path: Path
) -> None:
    first, second = Plane(authority, silent), Plane(authority, silent)
    async with (
        running(first, tmp_path),
        running(second, tmp_path),
        connected(files, first.url, second.url) as (control, ear),
    ):
        held, other = (first, second) if first.sockets else (second, first)
        asking = asyncio.create_task(control.ask(ASKED, Done))
        await until(lambda: len(held.requests) == 2)
        other.answers = lambda request: Done(request.number)
        await held.sockets[0].close()
        assert await asking
        assert [type(request) for request in other.requests] == [Hello, Acknowledge]
        assert (ear.sessions, ear.ended, control.counts.lost) == (2, 1, 1)


async def test_the_same_control_plane_is_found_again_when_it_is_back(
    authority: Signer, files: CredentialFiles, tmp_path: Path
) -> None:
    plane = Plane(authority)
    async with running(plane, tmp_path):
        control = ControlPlane([plane.url], files, "i1", "a test", Ear())
        await control.start()
    await until(lambda: not control.connected)
    async with running(plane, tmp_path):
        await until(lambda: control.connected)
        assert await control.ask(ASKED, Done)
    await control.stop()


async def test_a_control_plane_that_does_not_answer_is_left(
    authority: Signer, files: CredentialFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_DEADLINE", 0.3)
    hung, well = Plane(authority, greets=False), Plane(authority)
    async with (
        running(hung, tmp_path),
        running(well, tmp_path),
        connected(files, hung.url, well.url) as (control, _),
    ):
        await until(lambda: control.connected)
        assert await control.ask(ASKED, Done)
        (session,), well.answers, hung.greets = well.sockets, silent, True
        monkeypatch.setattr(connection, "ANSWER_DEADLINE", 0.1)
        assert await control.ask(ASKED, Done)  # the other one is well by now
        await until(lambda: session not in well.sockets)
        assert hung.sockets


async def test_a_request_that_nobody_answers_fails_and_the_only_control_plane_is_not_left(
    plane: Plane, files: CredentialFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ASK_DEADLINE", 0.1)
    plane.answers = silent
    async with connected(files, plane.url) as (control, ear):
        with pytest.raises(Unavailable, match=r"has not answered within 0\.1 s"):
            await control.ask(ASKED, Done)
        assert (control.connected, ear.ended) == (True, 0)


async def test_a_server_that_accepts_connections_and_says_nothing_is_left(
    files: CredentialFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_DEADLINE", 0.2)

    async def swallow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.Future()
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with connected(files, f"https://127.0.0.1:{port}") as (control, _):
        assert "has not answered within 0.2 s" in control.reason
    server.close()


async def test_a_control_plane_that_stops_in_the_middle_of_a_session_is_left_by_the_heartbeat(
    authority: Signer, files: CredentialFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEARTBEAT_OF_ONE", 0.2)
    async with running(Plane(authority), tmp_path) as plane, connected(files, plane.url) as (_, ear):
        transport = plane.sockets[0]._req.transport  # type: ignore[union-attr]
        assert transport
        transport.pause_reading()  # as of a process that is stopped
        await until(lambda: ear.sessions == 2)


@pytest.mark.parametrize("wrong", ['{"is":"welcome"}', "[]", "no json", '{"number":1}'])
async def test_a_control_plane_that_breaks_the_protocol_is_left(
    plane: Plane, files: CredentialFiles, wrong: str
) -> None:
    async with connected(files, plane.url) as (control, ear):
        await plane.sockets[0].send_str(wrong)
        await until(lambda: ear.sessions == 2)
        assert await control.ask(ASKED, Done)


async def test_an_answer_of_another_kind_is_no_answer(plane: Plane, files: CredentialFiles) -> None:
    async with connected(files, plane.url) as (control, ear):
        with pytest.raises(Unavailable, match="another kind"):
            await control.ask(Renew(0, is_able=True), Renewed)
        await until(lambda: ear.sessions == 2)


async def test_one_that_cannot_reach_the_store_is_left_if_there_are_others(
    authority: Signer, files: CredentialFiles, tmp_path: Path
) -> None:
    first, second = (Plane(authority, failing("unavailable")) for _ in range(2))
    async with (
        running(first, tmp_path),
        running(second, tmp_path),
        connected(files, first.url, second.url) as (control, ear),
    ):
        control._leave_after = 0.05
        deadline = time.monotonic() + 20
        while ear.sessions < 2 and time.monotonic() < deadline:
            with pytest.raises(Unavailable):
                await control.ask(ASKED, Done)
            await asyncio.sleep(0.01)
        await until(lambda: first.requests and second.requests)


async def test_a_server_of_another_authority_and_one_that_is_no_control_plane_are_not_believed(
    files: CredentialFiles, authority: Signer, tmp_path: Path
) -> None:
    async with (
        running(Plane(Signer()), tmp_path) as stranger,
        running(Plane(authority), tmp_path, name="h2.example") as host,
    ):
        for plane in (stranger, host):
            async with connected(files, plane.url) as (control, _):
                assert not control.connected
                assert "its certificate is not good: " in control.reason
            assert plane.requests == []


# The credential


async def test_a_refused_credential_is_named_with_the_remedy(plane: Plane, files: CredentialFiles) -> None:
    plane.status = 403
    async with connected(files, plane.url) as (control, _):
        assert control.is_refused
        assert "enrol it anew" in control.reason
        plane.status = 0
        await until(lambda: control.connected)
        assert not control.is_refused


async def test_a_credential_that_is_ended_ends_the_session(plane: Plane, files: CredentialFiles) -> None:
    async with connected(files, plane.url) as (control, ear):
        plane.status = 403
        await plane.sockets[0].close(code=REFUSED_CLOSE)
        await until(lambda: ear.ended == 1)
        await until(lambda: control.is_refused)
        assert not control.connected


async def test_the_next_session_shows_the_new_credential(plane: Plane, files: CredentialFiles) -> None:
    async with connected(files, plane.url) as (control, ear):
        key = HostKey.make("h2")
        files.make_room()
        files.keep(key, plane.authority.certify("h2", key.request))
        await control.begin_anew()
        assert (plane.peers, ear.sessions) == (["h1", "h2"], 2)
