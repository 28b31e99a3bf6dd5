"""How much one environment may hold, so that none takes what all share: memory of every host and of the store."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import asdict, fields

from zones.errors import Conflict
from zones.model import Environment


class Quota(Struct, frozen=True, forbid_unknown_fields=True):
    """How much an environment may hold. The defaults are those of an installation that sets none."""

    services: int = 2_000
    """Services."""
    instances: int = 50_000
    """Instances, of all services together."""
    records: int = 10_000
    """Custom record sets: one for each name and type."""
    peers: int = 2_000
    """External peers."""
    tokens: int = 100
    """Tokens for the environment."""
    document: int = 16 << 20
    """Octets of its document, in which all but the tokens is written down."""


KINDS = tuple(field.name for field in fields(Quota))


class QuotaExceeded(Conflict):
    """The change would take an environment beyond its quota."""

    def __init__(self, id_: str, kind: str, limit: int, present: int) -> None:
        super().__init__(
            f"environment {id_!r} {'would have' if kind == 'document' else 'has'} {present} {_WORDS[kind]}, and its"
            f" quota is {limit}: delete what is not used, or"
            f" have the quota {kind!r} raised, by PUT /v1/environments/{id_}/quota with the root token"
        )
        self.quota = kind
        self.limit = limit
        self.present = present


def check_quota(before: Environment | None, after: Environment, quota: Quota) -> None:
    """Returns if ``after`` may follow ``before``. Raises `QuotaExceeded`.

    What is more than the quota, because that was lowered, may stay and become less.
    """
    had = _used(before) if before else {}
    for kind, number in _used(after).items():
        limit = getattr(quota, kind)
        if number > limit and number > (present := had.get(kind, 0)):
            raise QuotaExceeded(after.id, kind, limit, present)


def grows(before: Environment | None, after: Environment) -> bool:
    """Whether ``after`` has more in it than ``before``, as far as its owner can choose how large that is."""
    return before is None or _weight(after) > _weight(before)


def used(environment: Environment, tokens: int, document: int) -> dict[str, int]:
    """How much ``environment`` has of each kind, beside its ``tokens`` and the octets of its ``document``."""
    return {**_used(environment), "tokens": tokens, "document": document}


def limits(quota: Quota) -> dict[str, int]:
    """The limits of ``quota``, by kind."""
    return asdict(quota)


def _used(environment: Environment) -> dict[str, int]:
    return {
        "services": len(environment.services),
        "instances": sum(len(service.instances) for service in environment.services.values()),
        "records": sum(map(len, environment.records.values())),
        "peers": len(environment.peers),
    }


def _weight(environment: Environment) -> int:
    parts = sum(_used(environment).values()) + sum(
        len(service.ports) + len(service.former_names) for service in environment.services.values()
    )
    return parts + sum(
        len(value) for sets in environment.records.values() for records in sets.values() for value in records.values
    )


_WORDS = {
    "services": "services",
    "instances": "instances",
    "records": "record sets",
    "peers": "external peers",
    "tokens": "tokens",
    "document": "octets in its document",
}
