"""The first process of a container, to which the kernel gives the children of processes that have ended.

It has the process id 1, and whoever has it must reap them: until then they stay in the table of processes, which a
container may have few places in. Those of a resolver are workers that have outlived their program. A program that
waits for its own children reaps no others, so the first process is one that does nothing else.
"""

from __future__ import annotations

import os
import signal

_FIRST = 1
_PASSED_ON = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
_ENDED_BY_SIGNAL = 128  # what a shell adds to the number of the signal that has ended a command


def begin_below_first() -> None:
    """Where this process is the first, goes on in a child of it, and the first one ends when that child does.

    The first one passes signals on to the child, and ends with its exit status. To be called before there are threads.
    """
    if os.getpid() != _FIRST:
        return
    awaited = {*_PASSED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    child = os.fork()
    if child:
        os._exit(_stand_before(child, awaited))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stand_before(child: int, awaited: set[signal.Signals]) -> int:
    """Reaps what ends until ``child`` has; gives its exit status."""
    while True:
        number = signal.sigwait(awaited)
        if number != signal.SIGCHLD:
            os.kill(child, number)  # it is there: nobody else reaps it
            continue
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)) is not None:
            if ended.si_pid == child:
                return ended.si_status + (0 if ended.si_code == os.CLD_EXITED else _ENDED_BY_SIGNAL)
