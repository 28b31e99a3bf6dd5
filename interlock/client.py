"""A client of the admin API, for commands and the demo: one request at a time, with urllib."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from interlock.advice import explain
from interlock.errors import ApiRefused, ApiUnreachable, BadSetting
from interlock.process.state_dir import TOKEN_FILE
from interlock.settings.table import Settings

TIMEOUT = 10.0  # seconds; twice the time that the API itself waits for its store
PAGE = 1000  # entries in one page of a list, the most that the API gives


@dataclass(frozen=True, slots=True)
class Client:
    """Sends requests to an admin API. All methods raise `ApiUnreachable` and `ApiRefused`."""

    url: str
    """The URL of the API, without the ``/v1``."""
    token: str = field(repr=False)
    """The bearer token that each request carries."""
    timeout: float = field(default=TIMEOUT, kw_only=True)
    """Seconds that a request may take."""

    @classmethod
    def of(cls, settings: Settings) -> Client:
        """A client of the API that ``settings`` name. Raises `BadSetting` where there is no token."""
        if not settings.api:
            raise BadSetting("which admin API? give --api URL or set INTERLOCK_API")
        # An agent takes several, a command one: of a flag that is given twice the last one counts.
        return cls(settings.api[-1], settings.token or _read_token(settings.state_dir / TOKEN_FILE))

    def get(self, *path: str, query: Mapping[str, str] | None = None) -> Any:
        """The resource at ``path``, which holds the segments below ``/v1``."""
        return self._send("GET", path, query=query)

    def get_text(self, *path: str, query: Mapping[str, str] | None = None) -> str:
        """The resource at ``path``, where that is a text and not JSON."""
        text: str = self._send("GET", path, query=query, decode=bytes.decode)
        return text

    def get_all(self, *path: str, of: str) -> dict[str, Any]:
        """The list at ``path``, all pages joined; each page has its entries in the field ``of``."""
        page: dict[str, Any] = self.get(*path, query={"limit": str(PAGE)})
        found = page
        while after := page.pop("next"):
            page = self.get(*path, query={"limit": str(PAGE), "after": after})
            found[of] += page[of]
        return found

    def get_tagged(self, *path: str) -> tuple[Any, str]:
        """The resource at ``path``, and its entity tag, by which a later write can demand that it is still the same."""
        tags: list[str] = []
        return self._send("GET", path, tags=tags), tags[0]

    @contextmanager
    def stream(self, *path: str, query: Mapping[str, str] | None = None) -> Iterator[Iterator[Any]]:
        """What comes at ``path``, line by line as it comes: each line is JSON. It ends with the ``with``.

        Such a stream has no end of its own: where it ends, that is `ApiUnreachable`.
        """
        response = self._send("GET", path, query=query, is_stream=True)
        with response:
            yield self._lines(response)

    def _lines(self, response: Iterable[bytes]) -> Iterator[Any]:
        reason: object = "it has ended, or was started again"
        try:
            for line in response:
                if line.strip():
                    yield json.loads(line)
        except ValueError:
            pass  # a line of which the end is missing
        except (OSError, http.client.HTTPException) as error:
            reason = error
        raise ApiUnreachable(f"the admin API at {self.url} says no more: {reason}: run the command again")

    def put(
        self,
        *path: str,
        body: Mapping[str, Any],
        only_new: bool = False,
        query: Mapping[str, str] | None = None,
        if_match: str = "",
        tags: list[str] | None = None,
    ) -> Any:
        """Creates the resource at ``path``, or changes it to ``body``; gives the resource.

        With ``only_new``, an existing resource stays as it is: `ApiRefused` with the status 412. ``if_match`` and
        ``tags`` are as those of `post`.
        """
        conditions = {"If-None-Match": "*" if only_new else "", "If-Match": if_match}
        return self._send("PUT", path, body, query, headers=conditions, tags=tags)

    def sign_in_link(self) -> dict[str, Any]:
        """A link that signs a browser in to the console: its ``url``, and for how many ``seconds`` it works, once."""
        made = self.post("sign-in-links", body={})
        return {"url": self.url + made["path"], "seconds": made["seconds"]}

    def post(
        self,
        *path: str,
        body: Mapping[str, Any],
        query: Mapping[str, str] | None = None,
        if_match: str = "",
        tags: list[str] | None = None,
    ) -> Any:
        """Posts ``body`` to the resource at ``path``; gives the reply.

        ``if_match``, if given, is the entity tag that its environment must still have: else `ApiRefused`, status 412.
        ``tags`` is given the entity tag that the environment has then.
        """
        return self._send("POST", path, body, query, headers={"If-Match": if_match}, tags=tags)

    def delete(self, *path: str, query: Mapping[str, str] | None = None) -> Any:
        """Deletes the resource at ``path``."""
        return self._send("DELETE", path, query=query)

    def _send(
        self,
        method: str,
        path: tuple[str, ...],
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        decode: Callable[[bytes], Any] = lambda content: json.loads(content) if content else None,
        headers: Mapping[str, str] | None = None,
        tags: list[str] | None = None,
        *,
        is_stream: bool = False,
    ) -> Any:
        """Gives what ``decode`` makes of the reply's content; ``tags`` is given the reply's entity tag.

        ``is_stream`` gives the reply itself, still open, whose content goes on.
        """
        url = "/".join((self.url, "v1", *(quote(segment, safe="") for segment in path)))
        request = Request(url + (f"?{urlencode(query)}" if query else ""), method=method)  # noqa: S310 http or https
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Accept", "application/json")
        for name, value in (headers or {}).items():
            if value:
                request.add_header(name, value)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            opened = _opener.open(request, timeout=self.timeout)
            if is_stream:
                return opened
            with opened as response:
                if tags is not None:
                    tags.append(response.headers["ETag"] or "")
                return decode(response.read())
        except HTTPError as error:
            with error:
                problem = _problem(error.read())
                message = explain(error.code, error.reason, problem)
                field_ = str(problem.get("field", "")) if isinstance(problem, dict) else ""
                raise ApiRefused(message, error.code, _kind(problem), field_) from None
        except ValueError:
            raise ApiUnreachable(f"{self.url} does not answer as an API: name another with --api") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)  # urllib wraps the reason in an error of its own
            reason = getattr(reason, "strerror", None) or reason
            raise ApiUnreachable(
                f"the admin API at {self.url} does not answer: {reason}: start it, or name another with --api"
            ) from None


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect: the token is for the server that the user named, and for no other."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


# No proxy either: the API is on this machine or in this network, and a proxy would see the token.
_opener = build_opener(ProxyHandler({}), _NoRedirect())


def _read_token(path: Path) -> str:
    try:
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it does not hold a token"
        raise BadSetting(f"no admin token: {path}: {reason}: give --token or set INTERLOCK_TOKEN") from None
    if not token:
        raise BadSetting(f"no admin token: {path} is empty: give --token or set INTERLOCK_TOKEN")
    return token


def _problem(content: bytes) -> Any:
    """The problem details (RFC 9457) in ``content``; None where that is no JSON."""
    try:
        return json.loads(content)
    except ValueError:
        return None


def _kind(problem: Any) -> str:
    """The end of the type of ``problem``; empty where it has none."""
    return str(problem.get("type", "")).rpartition(":")[2] if isinstance(problem, dict) else ""
