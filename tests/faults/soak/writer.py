"""A writer: commits to one environment all the time, and knows after each write what the environment holds."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import ClientError, ClientSession

from tests.faults.soak.judge import History, now

SERVICES = tuple(f"s{number}" for number in range(8))
INSTANCES = tuple(f"i{number}" for number in range(6))
RECORDS = tuple(f"r{number}" for number in range(6))
STATES = ("ready", "ready", "ready", "starting", "draining")
OVERLAPS = (0, 3, 20)  # seconds
SETTLED = (
    15.0  # seconds after a request of unknown outcome in which the API may still make its commit: a request has 10
)
PAUSE = 0.2  # seconds between two reads while the API does not answer

Request = tuple[str, str, Mapping[str, Any] | None]
"""Method, path below the environment, body."""


class Writer:
    """Writes to the environment of ``history``, at ``url``, about every ``every`` seconds."""

    def __init__(
        self, session: ClientSession, url: str, history: History, every: float, report: Callable[[str], None]
    ) -> None:
        self._session = session
        self._url = f"{url}/v1/environments/{history.id}"
        self._history = history
        self._every = every
        self._report = report
        self._random = random.Random(history.id)
        self._revision = 0  # the newest that was acknowledged or read
        self._unsure_until = 0.0  # until then a write of unknown outcome may still be made
        self.outcomes: Counter[str] = Counter()  # acknowledged, refused, unanswered
        self.lost = 0  # acknowledged writes that were not there afterwards

    async def create(self) -> None:
        """Makes the environment."""
        await self._write(("PUT", "", {}))

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * self._every)
            await self._write(self._choose())

    async def _write(self, request: Request) -> None:
        method, path, body = request
        sent = now()
        try:
            async with self._session.request(method, self._url + path, json=body) as reply:
                status, tag = reply.status, reply.headers.get("ETag", "")
                await reply.read()
        except (ClientError, TimeoutError):
            status, tag = 0, ""
        revision = int(tag.strip('"').partition("-")[0]) if status < 300 and tag else 0
        acknowledged = now()
        if status in (200, 201, 204):
            self.outcomes["acknowledged"] += 1
        elif 400 <= status < 500:
            self.outcomes["refused"] += 1
        else:
            self.outcomes["unanswered"] += 1
            self._unsure_until = now() + SETTLED
        if 500 <= status < 600 and status != 503:
            self._report(f"{self._history.id}: {method} {path} was answered with {status}")
        await self._learn(sent, acknowledged, max(revision, self._revision))

    async def _learn(self, sent: float, acknowledged: float, least: int) -> None:
        """Reads the environment, until the API answers, and notes it as the state that the write made."""
        while True:
            asked = now()
            view = await self._read()
            if view is not None:
                break
            await asyncio.sleep(PAUSE)
        if view["revision"] < least:
            self.lost += 1
            self._report(f"{self._history.id}: revision {least} was acknowledged, and then {view['revision']} was read")
        self._revision = view["revision"]
        # After a write of unknown outcome the state may have come at any time since, so it ends the one before it late.
        ended = acknowledged if self._unsure_until < acknowledged else now()
        self._history.add(view, sent, ended)
        self._history.known_until = asked

    async def _read(self) -> Mapping[str, Any] | None:
        try:
            async with self._session.get(self._url) as reply:
                return await reply.json() if reply.status == 200 else None
        except (ClientError, TimeoutError):
            return None

    def _choose(self) -> Request:
        view = self._history.states[-1].view
        if not view["services"]:
            return self._put_service()
        kinds = [self._put_instance] * 8 + [self._delete_instance] * 4 + [self._put_record] * 4
        kinds += [self._put_service, self._delete_record, self._delete_service, self._rename, self._batch]
        return self._random.choice(kinds)()

    def _service(self) -> str:
        name: str = self._random.choice(self._history.states[-1].view["services"])["name"]
        return name

    def _put_service(self) -> Request:
        return "PUT", f"/services/{self._random.choice(SERVICES)}", {"ports": [{"name": "http", "number": 80}]}

    def _delete_service(self) -> Request:
        return "DELETE", f"/services/{self._service()}", None

    def _rename(self) -> Request:
        body = {"rename": self._random.choice(SERVICES), "overlap_seconds": self._random.choice(OVERLAPS)}
        return "PUT", f"/services/{self._service()}", body

    def _put_instance(self) -> Request:
        path = f"/services/{self._service()}/instances/{self._random.choice(INSTANCES)}"
        return "PUT", path, {"state": self._random.choice(STATES)}

    def _delete_instance(self) -> Request:
        return "DELETE", f"/services/{self._service()}/instances/{self._random.choice(INSTANCES)}", None

    def _put_record(self) -> Request:
        name, number = self._random.choice(RECORDS), self._random.randrange(1 << 16)
        rtype, value = self._random.choice([("A", f"192.0.2.{number & 255}"), ("AAAA", f"2001:db8::{number:x}")])
        return "PUT", f"/records/{name}/{rtype}", {"ttl": 5, "values": [value]}

    def _delete_record(self) -> Request:
        return "DELETE", f"/records/{self._random.choice(RECORDS)}/{self._random.choice(('A', 'AAAA'))}", None

    def _batch(self) -> Request:
        service = self._random.choice(SERVICES)
        edits: list[dict[str, Any]] = [{"op": "put-service", "name": service}]
        for id_ in self._random.sample(INSTANCES, 4):
            state = self._random.choice(STATES)
            edits.append({"op": "put-instance", "service": service, "id": id_, "state": state})
        return "POST", "/batch", {"edits": edits}
