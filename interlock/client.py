"""A client of the admin API, for commands and the demo: one request at a time, with urllib."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

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
    token: str
    """The bearer token that each request carries."""

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

    def put(self, *path: str, body: Mapping[str, Any], only_new: bool = False) -> Any:
        """Creates the resource at ``path``, or changes it to ``body``; gives the resource.

        With ``only_new``, an existing resource stays as it is: `ApiRefused` with the status 412.
        """
        return self._send("PUT", path, body, only_new=only_new)

    def post(self, *path: str, body: Mapping[str, Any]) -> Any:
        """Posts ``body`` to the resource at ``path``; gives the reply."""
        return self._send("POST", path, body)

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
        *,
        only_new: bool = False,
    ) -> Any:
        url = "/".join((self.url, "v1", *(quote(segment, safe="") for segment in path)))
        request = Request(url + (f"?{urlencode(query)}" if query else ""), method=method)  # noqa: S310 http or https
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Accept", "application/json")
        if only_new:
            request.add_header("If-None-Match", "*")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with _opener.open(request, timeout=TIMEOUT) as response:
                return decode(response.read())
        except HTTPError as error:
            with error:
                content = error.read()
                message = _explain(error.code, error.reason, content)
                raise ApiRefused(message, error.code, _kind(content)) from None
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


def _kind(content: bytes) -> str:
    """The end of the type of the problem details (RFC 9457) in ``content``; empty where it has none."""
    try:
        return str(json.loads(content)["type"]).rpartition(":")[2]
    except (ValueError, KeyError, TypeError):
        return ""


def _explain(status: int, reason: str, content: bytes) -> str:
    """One line for an error status: from problem details (RFC 9457) where the reply has them."""
    try:
        problem = json.loads(content)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return f"{status} {reason}"
    title, detail = problem.get("title"), problem.get("detail")
    return ": ".join(str(part) for part in (title, detail) if part) or f"{status} {reason}"
