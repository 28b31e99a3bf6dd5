"""What runs in one process: `interlock up`, `interlock resolver` and `interlock admin`, put together from their parts.
`agent.py` does the same for `interlock agent`.

Parts start in the order in which they stand and end in the opposite one, so each ends before what it leans on.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import click

from admin.counts import ApiCounts
from interlock.client import Client
from interlock.demo import DEMO, demo_bindings, load_demo
from interlock.errors import BadSetting, InterlockError
from interlock.observe import logs
from interlock.observe.metrics import Metrics, Sources
from interlock.observe.readiness import Contact, Readiness
from interlock.parts.api import RootToken, admin_part, operations_part
from interlock.parts.names import Names
from interlock.process.embedded import EmbeddedStore
from interlock.process.notify import notify
from interlock.process.state_dir import locked, make_state_directory
from interlock.process.supervise import Part, Supervisor
from interlock.settings.table import Settings
from interlock.welcome import Welcome, reachable
from store.store import Store
from zones.addresses import Platform

log = logging.getLogger(__name__)


def run_up(settings: Settings) -> None:
    """Everything on this machine, until a signal ends it. Raises `InterlockError` where it cannot start."""
    logs.configure(settings.log_level, settings.log_format)
    make_state_directory(settings.state_dir)
    if settings.redis:
        run_until_told(_up(settings, settings.redis, []))
        return
    with locked(settings.state_dir) as lock:
        embedded = EmbeddedStore(settings.state_dir, lock, settings.store_server)
        run_until_told(_up(settings, embedded.url, [Part("store", embedded.run)]))


def run_resolver(settings: Settings) -> None:
    """The watcher and the resolver, until a signal ends it. Raises `InterlockError` where it cannot start."""
    if settings.agent_dir and settings.redis:
        raise BadSetting("a resolver learns from the store or from this host's agent: leave out --redis or --agent-dir")
    url = (
        None
        if settings.agent_dir
        else require_store(settings, "resolver", ", or --agent-dir to learn from this host's agent")
    )
    logs.configure(settings.log_level, settings.log_format)
    run_until_told(_resolver(settings, url))


def run_admin(settings: Settings) -> None:
    """The admin API, until a signal ends it. Raises `InterlockError` where it cannot start."""
    url = require_store(settings, "admin")
    logs.configure(settings.log_level, settings.log_format)
    make_state_directory(settings.state_dir)
    run_until_told(_admin(settings, url))


async def _up(settings: Settings, url: str, first: Sequence[Part]) -> None:
    store, token = Store(url, settings.redis_prefix), RootToken.of(settings)
    names = Names.of(settings, store, demo_bindings(settings.bind) if settings.demo else settings.bind)
    supervisor, counts = Supervisor([*first, *names.parts]), ApiCounts()
    metrics = Metrics(Sources(supervisor, names, counts))
    admin = admin_part(settings, store, token, counts, Readiness(supervisor, names, is_writer=True), metrics)
    supervisor.parts.append(admin.part)

    async def welcome() -> None:
        await names.loaded.wait()
        if settings.demo:
            await _load_demo(Client(admin.url, token.text), settings.platform, names)
        dns = reachable(*names.resolver.addresses[0])
        new_token = token.text if token.is_new else None
        click.echo(Welcome(dns, admin.url, token.path, new_token, settings.platform, settings.demo))

    await serve(supervisor, store, welcome)


async def _load_demo(client: Client, platform: Platform, names: Names) -> None:
    try:
        revision = await asyncio.to_thread(load_demo, client, platform)
        await names.wait_for(DEMO, revision)
    except (InterlockError, TimeoutError) as error:
        log.error("demo_not_loaded", extra={"reason": str(error) or "it was not heard of in time"})


async def _resolver(settings: Settings, url: str | None) -> None:
    store = Store(url, settings.redis_prefix) if url else None
    names = Names.of(settings, store, settings.bind)
    supervisor = Supervisor(list(names.parts))
    if settings.ops_listen:
        metrics = Metrics(Sources(supervisor, names))
        supervisor.parts.append(operations_part(settings.ops_listen, Readiness(supervisor, names), metrics).part)
    await serve(supervisor, store)


async def _admin(settings: Settings, url: str) -> None:
    store, token = Store(url, settings.redis_prefix), RootToken.of(settings)
    contact, counts = Contact(store), ApiCounts()
    supervisor = Supervisor([contact.part])
    metrics = Metrics(Sources(supervisor, admin=counts))
    readiness = Readiness(supervisor, contact=contact)
    supervisor.parts.append(admin_part(settings, store, token, counts, readiness, metrics).part)
    if token.is_new:
        log.info("token_made", extra={"path": str(token.path)})
    await serve(supervisor, store)


async def serve(
    supervisor: Supervisor,
    store: Store | None,
    when_ready: Callable[[], Coroutine[Any, Any, None]] | None = None,
    until: asyncio.Event | None = None,
) -> None:
    """Runs the parts of ``supervisor`` until cancelled, or until ``until`` is set."""
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


def run_until_told(main: Coroutine[Any, Any, None]) -> None:
    """Runs ``main`` until it ends or a signal (SIGTERM, SIGINT) asks it to."""
    # The usual soft limit of 1,024 open files is for programs that use select(2); connections and upstreams need more.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_end_on_signals(main))


async def _end_on_signals(main: Coroutine[Any, Any, None]) -> None:
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Only the first of them counts: to drain takes seconds at most, and whoever cannot wait has SIGKILL.
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    task, waiting = asyncio.ensure_future(main), asyncio.ensure_future(asked.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()


def require_store(settings: Settings, command: str, instead: str = "") -> str:
    """The URL of the store that ``interlock command`` cannot do without. Raises `BadSetting`.

    ``instead`` is what it might be given in its place.
    """
    if settings.redis is None:
        raise BadSetting(f"'interlock {command}' needs a store: give --redis URL or set INTERLOCK_REDIS_URL{instead}")
    return settings.redis
