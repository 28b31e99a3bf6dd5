"""``interlock up``: everything on one machine, in one process, with an embedded store unless another is named."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

import click

from admin.console.context import Console
from admin.counts import ApiCounts
from admin.lookups.hub import LookupHub
from interlock.client import Client
from interlock.errors import InterlockError
from interlock.observe import logs
from interlock.observe.metrics import (
    Metrics,
    admin_metrics,
    clock_metrics,
    hosts_metrics,
    lookups_metrics,
    resolver_metrics,
    snapshot_metrics,
    supervisor_metrics,
    watcher_metrics,
)
from interlock.observe.readiness import (
    Readiness,
    all_answer,
    clock_agrees,
    demo_loaded,
    documents_used,
    snapshot_kept,
    store_connected,
    store_history,
    store_is_durable,
    withdrawals_passed,
    writes_taken,
    zones_loaded,
)
from interlock.parts.console import lookups_of
from interlock.parts.durability import DurabilityCheck
from interlock.parts.embedded_store import EmbeddedStorePart
from interlock.parts.hosts import HostsParts, Tee
from interlock.parts.http import RootToken, admin_part
from interlock.parts.own_lookups import OwnLookups
from interlock.parts.resolver import ResolverParts
from interlock.parts.snapshot import snapshot_path
from interlock.parts.store import open_store
from interlock.parts.this_machine import HOSTS_LISTEN, check_mesh, mesh_parts
from interlock.parts.write_probe import WriteProbe
from interlock.process.embedded import EmbeddedStore
from interlock.process.lifecycle import run_until_signal, serve
from interlock.process.state_dir import locked, make_state_directory
from interlock.process.supervise import Part, Supervisor
from interlock.programs.demo import DEMO, DemoLoading, demo_bindings, load_demo
from interlock.programs.welcome import Welcome
from interlock.settings.table import UP, Settings
from interlock.settings.values import reachable
from watcher.guard import Guard
from watcher.publisher import Publisher
from watcher.watcher import Watcher
from zones.addresses import Platform

log = logging.getLogger(__name__)


def run_up(settings: Settings) -> None:
    """Runs everything on this machine until a signal ends it. Raises `InterlockError` where it cannot start."""
    check_mesh(settings)
    if settings.mesh and not settings.hosts_listen:
        settings = replace(settings, hosts_listen=(HOSTS_LISTEN,))
    logs.configure(settings.log_level, settings.log_format)
    make_state_directory(settings.state_dir)
    if settings.redis:
        run_until_signal(_serve(settings, settings.redis, []))
        return
    with locked(settings.state_dir) as lock:
        embedded = EmbeddedStore(settings.state_dir, lock, settings.store_server)
        part = EmbeddedStorePart(embedded, snapshot_path(UP, settings.state_dir))
        run_until_signal(_serve(settings, embedded.url, [Part("store", part.run)]))


async def _serve(settings: Settings, url: str, first: Sequence[Part]) -> None:
    """Runs the parts of ``up`` on the store at ``url``, after the parts in ``first``."""
    store, token = open_store(settings, url), RootToken.of(settings)
    bindings = demo_bindings(settings.bind) if settings.demo else settings.bind
    awaited = DEMO if settings.demo else None
    durability, counts = DurabilityCheck(store), ApiCounts()
    hosts = HostsParts.of(settings, store, counts) if settings.hosts_listen else None
    console = Console()

    def watch(publisher: Publisher) -> Watcher:
        publishers, guard = Tee((publisher, console.state)), Guard(settings.guard)
        if hosts:
            return hosts.watch(settings.platform, guard, publishers)
        return Watcher(store, settings.platform, publishers, guard=guard)

    dns, demo = ResolverParts.of(UP, settings, store, bindings, awaited=awaited, watch=watch), DemoLoading()
    console.lookups = lambda: lookups_of(dns.queries)
    writes = WriteProbe(store)
    supervisor = Supervisor([*first, *dns.parts, durability.part, writes.part])
    checks = [zones_loaded(dns), *all_answer(dns.workers), store_connected(dns.watcher), writes_taken(writes)]
    if settings.demo:
        checks.append(demo_loaded(demo))
    notes = (
        clock_agrees(store.clock),
        withdrawals_passed(dns.watcher),
        documents_used(dns.watcher),
        store_is_durable(durability),
    )
    readiness = Readiness(supervisor, *checks, *store_history(dns.watcher), *notes, *snapshot_kept(dns.watcher))
    sources = [
        supervisor_metrics(supervisor),
        resolver_metrics(dns.resolver, dns.workers),
        watcher_metrics(dns.watcher),
        snapshot_metrics(dns.watcher, lambda: dns.stale_since),
        admin_metrics(counts),
        clock_metrics(store.clock),
    ]
    if hosts and isinstance(dns.watcher, Watcher):
        supervisor.parts += hosts.parts(dns.watcher)
        sources.append(hosts_metrics(hosts.service))
    service = hosts.service if hosts else None
    lookups = service.lookups if service else LookupHub()
    sources.append(lookups_metrics(lookups))
    lookups.add(OwnLookups(dns.querylog, lookups))
    render, guard = dns.ask_before(Metrics(*sources).render), dns.watcher.guard
    admin = admin_part(settings, store, token, counts, readiness, render, guard, service, lookups, console)
    supervisor.parts.append(admin.part)
    if settings.mesh:
        supervisor.parts += mesh_parts(settings, lambda: Client(admin.url, token.text))

    async def welcome() -> None:
        await dns.loaded.wait()
        if settings.demo:
            await _load_demo(Client(admin.url, token.text), settings.platform, dns, demo)
        address = reachable(*dns.addresses[0])
        link = await _console_link(Client(admin.url, token.text)) if settings.demo else ""
        click.echo(Welcome(address, admin.url, token.path, settings.platform, settings.demo, link, settings.mesh))

    await serve(supervisor, store, welcome)


async def _console_link(client: Client) -> str:
    """A link that signs a browser in, once; empty where none could be made, which the log has said by then."""
    try:
        url: str = (await asyncio.to_thread(client.sign_in_link))["url"]
    except InterlockError:
        return ""
    return url


async def _load_demo(client: Client, platform: Platform, dns: ResolverParts, demo: DemoLoading) -> None:
    try:
        revision = await asyncio.to_thread(load_demo, client, platform)
        await dns.wait_for(DEMO, revision)
        demo.obstacle = ""
    except (InterlockError, TimeoutError) as error:
        demo.obstacle = str(error) or "the resolver did not load the demo's commit in time"
        log.error("demo_not_loaded", extra={"reason": demo.obstacle})
    dns.complete()
