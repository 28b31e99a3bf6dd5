"""The life of one process: its parts start, it serves until a signal ends it, and the parts stop."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from interlock.process.notify import notify
from interlock.process.supervise import Supervisor
from store.store import Store

SWITCH = 0.0005  # seconds for which a thread keeps the interpreter that others wait for

log = logging.getLogger(__name__)


def run_until_signal(main: Coroutine[Any, Any, None]) -> None:
    """Runs ``main`` in an event loop until it returns, or until SIGTERM, SIGINT or a lost terminal cancels it."""
    # The usual soft limit of 1,024 open files is for programs that use select(2); connections and upstreams need more.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Large documents are read and written by a thread (`store.aside`). The event loop gives the interpreter away with
    # each system call, some thirty times for a request, and would wait for the usual 5 ms each time to have it back.
    sys.setswitchinterval(SWITCH)
    asyncio.run(_cancel_on_signal(main))


async def _cancel_on_signal(main: Coroutine[Any, Any, None]) -> None:
    signalled = asyncio.Event()
    ends = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # from a terminal that has gone
        ends.append(signal.SIGHUP)
    for number in ends:
        # Only the first signal counts: draining takes seconds at most, and an operator who cannot wait has SIGKILL.
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)
    task, waiting = asyncio.ensure_future(main), asyncio.ensure_future(signalled.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()


async def serve(
    supervisor: Supervisor,
    store: Store | None,
    when_ready: Callable[[], Coroutine[Any, Any, None]] | None = None,
    until: asyncio.Event | None = None,
) -> None:
    """Starts the parts of ``supervisor``, serves until cancelled or until ``until`` is set, and stops the parts.

    ``when_ready`` runs once all parts are ready. ``store`` is closed last, after the parts that use it.
    """
    try:
        await supervisor.start()
        notify("READY=1")
        log.info("ready")
        if when_ready:
            await when_ready()
        await (until or asyncio.Event()).wait()
    finally:
        notify("STOPPING=1")
        log.info("stopping")
        await supervisor.stop()
        if store:
            await store.close()
