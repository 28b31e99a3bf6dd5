"""Forking a process that has an event loop: the child has its memory, which both share as long as neither changes it.

The child gets a new event loop and its own signal handling, and of the open files those alone that it is to keep. It
never returns into the code that forked it: it ends with what it was forked for.

Other threads of the parent are not in the child, and what they held locked at that moment would stay locked there. Of
such locks the child needs those of malloc, of the import system, of logging and of the standard streams, which the C
library and Python put in order after a fork; and it uses no other object of the parent's threads.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from interlock.process.parent import end_with_parent

FAILED = 70  # sysexits.h, EX_SOFTWARE: the exit status of a child with a fault
STREAMS = (0, 1, 2)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

log = logging.getLogger(__name__)


def fork(main: Callable[[], Coroutine[Any, Any, None]], keep: Iterable[int], *, outlives: bool = False) -> int:
    """Runs ``main`` in a child of this process, which has the files ``keep`` open; gives its process id.

    The child ends with ``main``, or when this process ends, unless it ``outlives`` this process; the signals that end
    this process do not end the child. Raises ``OSError``.
    """
    kept = {*keep, *STREAMS}
    bind = (lambda: None) if outlives else end_with_parent()
    gc.freeze()  # the collector of the child would write to every object that it looks at, and so copy all memory
    # A signal that arrives before the child has handlers of its own would be handled as by the parent, in both.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = os.fork()
        if not pid:
            _become_child(main, kept, bind)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _become_child(main: Callable[[], Coroutine[Any, Any, None]], kept: set[int], bind: Callable[[], None]) -> None:
    status = FAILED
    try:
        bind()
        signal.set_wakeup_fd(-1)  # it is the event loop's of the parent
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        _let_go_of_files(kept)
        asyncio.run(main())
        status = 0
    except BaseException as error:
        log.error("child_failed", exc_info=error)
    finally:
        logging.shutdown()
        os._exit(status)


def _let_go_of_files(kept: set[int]) -> None:
    """Puts nothing in the place of the other files, for objects of the parent still have their numbers."""
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in kept and descriptor != nothing:
            try:
                os.fstat(descriptor)
            except OSError:
                continue  # it was that of the folder
            os.dup2(nothing, descriptor, inheritable=False)
