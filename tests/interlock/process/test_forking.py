"""A fork of a process with an event loop: it runs by itself, and has nothing of its parent's but what it is to keep."""

from __future__ import annotations

import signal
from pathlib import Path

from interlock.process.forking import FAILED
from tests.interlock.processes import python, run, started, wait_until

PARENT = """
import asyncio, os, signal, socket, sys
from interlock.process.forking import fork

async def child(kept, other):
    await asyncio.to_thread(len, "a thread of its own")
    same = os.fstat(other).st_rdev == os.stat("/dev/null").st_rdev
    os.write(kept, f"{same} {signal.getsignal(signal.SIGTERM) is signal.SIG_IGN}".encode())
    EXTRA

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: print("SIGTERM", flush=True))
    await asyncio.to_thread(len, "so that there are several threads")
    read, kept = os.pipe()
    other = socket.socket()
    pid = fork(lambda: child(kept, other.fileno()), [kept])
    os.close(kept)
    print(pid, os.read(read, 100).decode(), flush=True)
    AFTER

asyncio.run(main())
"""
WAITING = "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"


def parent(extra: str = "", after: str = WAITING) -> tuple[str, ...]:
    return python("-W", "error", "-c", PARENT.replace("EXTRA", extra).replace("AFTER", after))


def test_it_has_an_event_loop_and_the_files_that_it_is_to_keep() -> None:
    done = run(*parent())
    assert done.stdout.split()[1:] == ["True", "True", "0"], done.stderr


def test_a_fault_ends_it_and_nothing_else() -> None:
    done = run(*parent("raise ValueError('on purpose')"))
    assert done.stdout.split()[-1] == str(FAILED)
    assert "on purpose" in done.stderr
    assert done.returncode == 0


def test_it_ends_with_its_parent() -> None:
    with started(*parent("await asyncio.Future()", "await asyncio.Future()")) as process:
        pid = int(process.read_until("True").split()[0])
        process.end(signal.SIGKILL)
        wait_until(lambda: not _runs(pid))


def test_a_signal_to_it_is_not_taken_for_one_to_its_parent() -> None:
    after = "os.kill(pid, signal.SIGTERM); os.kill(pid, signal.SIGKILL); await asyncio.sleep(0); " + WAITING
    done = run(*parent("await asyncio.Future()", after))
    assert done.stdout.split()[-1] == str(-signal.SIGKILL)
    assert "SIGTERM" not in done.stdout


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
