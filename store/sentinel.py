"""Sentinels: they name the primary, and its replicas.

All Sentinels are asked at once, and the newest configuration counts: one that is cut off from the others goes on naming
the primary of the past.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.client import arguments_of_sentinel, as_unavailable, open_client
from store.errors import Unavailable
from store.url import Address, SentinelUrl

ANSWER_TIMEOUT = 1.0  # seconds until a Sentinel counts as away; a healthy one answers within a millisecond or two
GRACE = 0.1  # seconds after the first good answer in which others may answer too


@dataclass(frozen=True, slots=True)
class Servers:
    """The primary and its replicas, as the Sentinels know them."""

    primary: Address
    """Where the primary is."""
    up: frozenset[Address]
    """Where the replicas are that are up, each of which may become the primary."""
    unled: frozenset[Address]
    """Those of ``up`` that take themselves for a primary: promoted, and not announced yet, or of the past."""
    are_known: bool
    """Whether there are replicas at all, up or not."""
    linked: frozenset[Address]
    """Where the replicas are that are up and have a link to the primary."""


class Sentinels:
    """The Sentinels that ``url`` names; ``shown`` is that URL without passwords."""

    def __init__(self, url: SentinelUrl, shown: str, ca: Path | None = None) -> None:
        self._name = url.primary
        self._shown = shown
        self._clients = [
            open_client(arguments_of_sentinel(url, address, ca), timeout=ANSWER_TIMEOUT, any_role=True)
            for address in url.sentinels
        ]

    async def servers(self) -> Servers:
        """Where the primary is, and its replicas. Raises `Unavailable` if no Sentinel knows a primary that is up."""
        client, primary = await self._newest()
        with as_unavailable(self._shown):
            replicas = await client.sentinel_slaves(self._name)
        # To the Sentinel that conducts a failover, the new primary is still one of the replicas.
        others = [one for one in replicas if _address(one) != primary]
        up = [one for one in others if not (one["is_sdown"] or one["is_odown"] or one["is_disconnected"])]
        # A replica whose link is down serves what it heard last, which may be long ago.
        linked = [one for one in up if one.get("master-link-status") == "ok"]
        unled = [one for one in up if one.get("role-reported") == "master"]
        return Servers(primary, _addresses(up), _addresses(unled), bool(replicas), _addresses(linked))

    async def close(self) -> None:
        """Closes the connections to the Sentinels."""
        for client in self._clients:
            await client.aclose()

    async def _newest(self) -> tuple[Any, Address]:
        """The primary by the newest configuration, and a client of a Sentinel that named it."""
        asked = {asyncio.create_task(self._ask(client)) for client in self._clients}
        try:
            answers: list[tuple[int, Any, Address]] = []
            pending = asked
            while pending:
                done, pending = await asyncio.wait(
                    pending, timeout=GRACE if answers else None, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                answers += [answer for task in done if (answer := task.result())]
            if not answers:
                raise Unavailable(
                    f"store {self._shown}: No primary found: no Sentinel answers that knows {self._name!r} to be up"
                )
            _, client, address = max(answers, key=lambda answer: answer[0])
            return client, address
        finally:
            await _end(asked)

    async def _ask(self, client: Any) -> tuple[int, Any, Address] | None:
        try:
            with as_unavailable(self._shown):
                found = await client.sentinel_master(self._name)
                address = _address(found)
                promoted = await self._promoted(client, address) if "failover_in_progress" in found["flags"] else None
        except Unavailable:
            return None
        if not promoted and (not found["is_master"] or found["is_sdown"] or found["is_odown"]):
            return None
        return int(found["config-epoch"]), client, promoted or address

    async def _promoted(self, client: Any, primary: Address) -> Address | None:
        """The replica that has become the primary after ``primary``, to the Sentinel that conducts the failover.

        To it ``primary`` is the primary in all other commands until the other replicas follow the new one, which may
        take as long as its failover-timeout.
        """
        found = await client.sentinel_get_master_addr_by_name(self._name)
        if not found:
            return None
        address = (found[0].decode(), int(found[1]))
        return address if address != primary else None


def _addresses(replicas: Iterable[dict[str, Any]]) -> frozenset[Address]:
    return frozenset(_address(one) for one in replicas)


def _address(server: dict[str, Any]) -> Address:
    return str(server["ip"]), int(server["port"])


def choose(addresses: Iterable[Address]) -> Address:
    """One of ``addresses`` at random, so that readers spread over the replicas."""
    return random.choice(sorted(addresses))  # noqa: S311 no secret


async def _end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
