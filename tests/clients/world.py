"""What the clients of the matrix find: two environments, and a small Internet behind them."""

from __future__ import annotations

from tests.worlds import build, compiled
from zones.edits import PutInstance, PutRecord, PutService
from zones.model import Environment, Port, RecordSet
from zones.zone import Zone

RESOLVER, OTHER_ADDRESS = "fd12::10", "fd12::11"
PLATFORM_PREFIX = "fd12::/16"
SUFFIX = "railway.internal"
BITS = 0x5B1E90C4
NETWORK = "fd12:5b1e:90c4::/48"

# Everything that a look-up can lead to ends in the client's own namespace, where a test server stands in for it.
LOCAL_PREFIXES = (NETWORK, "2001:db8::/32", "192.0.2.0/24", "198.51.100.0/24")

SMALL = ("192.0.2.80", "2001:db8::80")
CHAIN_END = ("192.0.2.81", "2001:db8::81")
BIG_V4 = tuple(f"198.51.100.{number}" for number in range(1, 41))
WILD = "2001:db8::a"

# A name for each look-up, so that no cache of a client answers for the server.
PAIRS = ("mixed", "dotted", "single", "searched", "only4", "only6", "typed", "paired")

_LABEL = 63
LONGEST = ".".join(("a" * _LABEL, "b" * _LABEL, "c" * _LABEL, "d" * 39, "many", SUFFIX))
assert len(LONGEST) == 253, len(LONGEST)


def production() -> Environment:
    """The clients' environment."""
    return build(
        "production",
        BITS,
        PutService("api", ports=(Port("http", 8080),)),
        PutInstance("api", "a1", region="eu"),
        PutInstance("api", "a2", region="us"),
        *(edit for name in PAIRS for edit in (PutService(name), PutInstance(name, "i1"), PutInstance(name, "i2"))),
        PutService("sixteen"),
        *(PutInstance("sixteen", f"s{number:02d}") for number in range(16)),
        PutService("sixty"),
        *(PutInstance("sixty", f"c{number:02d}") for number in range(60)),
        PutRecord("db", "CNAME", RecordSet(60, ("api.railway.internal.",))),
        PutRecord("my_db", "CNAME", RecordSet(60, ("api.railway.internal.",))),
        PutRecord("outside", "CNAME", RecordSet(60, ("small.example.",))),
        PutRecord("deep.under.apps", "TXT", RecordSet(60, ("deep",))),
        PutRecord("*.many", "AAAA", RecordSet(60, (WILD,))),
    )


def staging() -> Environment:
    """Another environment: what is here must not be seen from the first."""
    return build("staging", 0x00AB00CD, PutService("only-here"), PutInstance("only-here", "i1"))


def zones() -> tuple[Zone, Zone]:
    """Both, as they are published."""
    return compiled(production()), compiled(staging())


def addresses(service: str) -> tuple[str, ...]:
    """The addresses of ``service`` in production."""
    return tuple(str(instance.address) for instance in production().services[service].instances.values())


def client_address(number: int) -> str:
    """An address for the client ``number``, in production's network and of none of its services."""
    return f"fd12:5b1e:90c4:ffff::{number + 0x100:x}"
