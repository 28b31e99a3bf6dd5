"""Look-ups through pycares, which brings its own c-ares, newer than the distribution's."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from tests.clients.programs.answers import Failed, NoSuchLookup, NotThere, serve

pycares: Any = import_module("pycares")  # its types are not where the rest of the tests are checked
_CHANNEL = pycares.Channel()
_FAMILIES = {"any": socket.AF_UNSPEC, "4": socket.AF_INET, "6": socket.AF_INET6}
_NOT_THERE = (pycares.errno.ARES_ENOTFOUND, pycares.errno.ARES_ENODATA)
_PATIENCE = 60.0  # seconds; c-ares itself gives up before


def look(request: list[str]) -> Iterable[str]:
    match request:
        case ["ptr", address]:
            found = _wait([lambda callback: _CHANNEL.gethostbyaddr(address, callback=callback)])
            return [found[0].name]
        case ["type", number, name]:
            try:
                found = _wait([lambda callback: _CHANNEL.query(name, int(number), callback=callback)])
            except ValueError as error:  # "invalid query type specified"
                raise NoSuchLookup from error
            answer = getattr(found[0], "answer", found[0])
            if not answer:
                raise NotThere("NODATA")
            return [str(len(answer))]
        case ["many", count, suffix]:
            return [str(len(_wait([_getaddrinfo("any", f"m{number}.{suffix}") for number in range(int(count))])))]
        case [family, name]:
            return [_address(node) for node in _wait([_getaddrinfo(family, name)])[0].nodes]
    raise AssertionError(request)


def _getaddrinfo(family: str, name: str) -> Callable[[Any], None]:
    def start(callback: Any) -> None:
        _CHANNEL.getaddrinfo(name, None, family=_FAMILIES[family], type=socket.SOCK_STREAM, callback=callback)

    return start


def _address(node: Any) -> str:
    address = node.addr[0]
    return address.decode() if isinstance(address, bytes) else str(address)


def _wait(starts: list[Callable[[Any], None]]) -> list[Any]:
    """The results of all that ``starts`` begin. Raises as the first error says."""
    results: list[tuple[Any, Any]] = []
    done = threading.Event()

    def callback(result: Any, error: Any) -> None:
        results.append((result, error))
        if len(results) == len(starts):
            done.set()

    for start in starts:
        start(callback)
    if not done.wait(_PATIENCE):
        raise Failed("no callback")
    for _, error in results:
        if error in _NOT_THERE:
            raise NotThere(pycares.errno.strerror(error))
        if error is not None:
            raise Failed(pycares.errno.strerror(error))
    return [result for result, _ in results]


if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        print(pycares.ARES_VERSION)
    else:
        serve(look)
