"""A task that lets other work in between its steps, so that what is urgent need not wait for all tasks that are due."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Stepwise(Coroutine[Any, Any, T_co]):
    """``coroutine``, for a task, with a call of ``before`` before each of its steps.

    An event loop takes all steps that are due before it looks at its sockets again. A thousand steps of forwarding take
    a tenth of a second, for which replies that need no upstream would wait.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T_co], before: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._before = before

    def send(self, value: Any) -> Any:
        self._before()
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        self._before()
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, T_co]:
        return (yield from self._coroutine.__await__())
