"""A browser without a screen: it keeps cookies, sends what browsers send, and reads the streams of events."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import ClientResponse, ClientSession, CookieJar, TCPConnector

from tests.admin.api import Api

OVERVIEW = "/console/overview"


@dataclass(frozen=True)
class Shown:
    """A reply."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def csrf(self) -> str:
        """What the page sends with each change."""
        found = re.search(r'"X-Csrf-Token": "(\w+)"', self.text)
        return found[1] if found else ""


class Browser:
    """A browser that looks at ``api``."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.csrf = ""

    async def __aenter__(self) -> Browser:
        self.session = ClientSession(
            f"http://127.0.0.1:{self._api.port}", cookie_jar=CookieJar(unsafe=True), connector=TCPConnector(limit=0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    @property
    def cookies(self) -> Mapping[str, str]:
        return {cookie.key: cookie.value for cookie in self.session.cookie_jar}

    async def send(
        self,
        method: str,
        path: str,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        is_part: bool = False,
    ) -> Shown:
        """Sends a request as a page does; ``is_part`` as htmx does."""
        sent = {"HX-Request": "true", "X-Csrf-Token": self.csrf} if is_part else {}
        request = self.session.request(
            method, path, data=form, headers={**sent, **(headers or {})}, allow_redirects=False
        )
        async with request as response:
            return Shown(response.status, response.headers.copy(), await response.text())

    async def get(self, path: str, **headers: str) -> Shown:
        shown = await self.send("GET", path, headers=headers)
        self.csrf = shown.csrf or self.csrf
        return shown

    async def post(
        self, path: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Shown:
        return await self.send("POST", path, form, headers, is_part=True)

    async def sign_in(self, token: str) -> Shown:
        """Signs in with ``token``, and looks at the page to which that leads."""
        signed = await self.send("POST", "/console/sign-in", {"token": token})
        if "Location" in signed.headers:
            await self.get(signed.headers["Location"])
        return signed

    @asynccontextmanager
    async def events(self, topics: str, after: str = "", **headers: str) -> AsyncIterator[Events]:
        """The events of ``topics``."""
        params = {"topics": topics, **({"after": after} if after else {})}
        async with self.session.get("/console/events", params=params, headers=headers) as response:
            yield Events(response)


@dataclass
class Events:
    """A stream of events."""

    response: ClientResponse

    async def next(self) -> tuple[str, str, str]:
        """The name, the data and the id of the next event."""
        fields: dict[str, list[str]] = {}
        while line := (await self.response.content.readline()).decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if line == "\n":
                if "event" in fields:
                    return fields["event"][0], "\n".join(fields.get("data", [])), fields.get("id", [""])[0]
                fields = {}
            else:
                fields.setdefault(name, []).append(value)
        raise EOFError
