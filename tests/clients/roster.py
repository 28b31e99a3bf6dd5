"""Every client of the matrix, by family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import dns.version

from tests.clients import builds
from tests.clients.builds import Maker


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """One client. ``key`` is its name on the command line, ``name`` in the table.

    ``searches`` says whether it uses the search list, ``connects`` that it tells only the address that it chose.
    ``is_vague`` says that it tells a failure as it tells a missing name.
    ``never`` says why some scenarios are not for it, and ``patient`` why in some it asks more than it would have to:
    by its own ways, whatever the server does.
    """

    key: str
    name: str
    family: str
    make: Maker
    searches: bool = True
    connects: bool = False
    is_vague: bool = False
    never: Mapping[str, str] = field(default_factory=dict)
    patient: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.key


MUSL, GLIBC, LIBRARIES, TOOLS = "musl", "glibc", "Resolver libraries", "Programs"

_GLIBC_ROOM = dict.fromkeys(
    ("sixty", "outside-large"),
    "glibc sends the query again, with a larger buffer of its own, for many addresses (16 fit, 40 do not), whatever "
    "the server",
)
_LIBUNBOUND = "libunbound queries each name of a chain separately: it does not use an answer about another name"
_NETTY = "netty also queries CNAME if it finds no address, and follows an alias with a new query"
_RESOLVED = (
    "systemd-resolved sends the query once more, without EDNS, before it believes an NXDOMAIN (its DVE-2018-0001)"
)
_ONE_PROCESS_EACH = "the test starts 100 processes, which take most of the time"

CLIENTS = (
    Client("musl-1.2.2", "musl", MUSL, partial(builds.musl, "0.9.1")),
    Client("musl-1.2.3", "musl", MUSL, partial(builds.musl, "0.10.1.post1")),
    Client("musl-debian", "musl of Debian", MUSL, builds.musl_of_debian),
    Client("musl-1.2.4", "musl", MUSL, partial(builds.musl, "0.11.0")),
    Client("musl-1.2.5", "musl", MUSL, partial(builds.musl, "0.13.0")),
    *(
        Client(
            f"glibc-{option}" if option else "glibc",
            f"glibc {option}".strip(),
            GLIBC,
            partial(builds.glibc, option),
            patient=_GLIBC_ROOM,
        )
        for option in ("", "single-request", "single-request-reopen", "edns0", "use-vc", "trust-ad")
    ),
    Client("c-ares", "c-ares", LIBRARIES, builds.cares),
    Client("pycares", "c-ares (pycares)", LIBRARIES, builds.pycares),
    Client("node-resolve", "Node dns.resolve", LIBRARIES, partial(builds.node, "resolve"), searches=False),
    Client("node-lookup", "Node dns.lookup", LIBRARIES, partial(builds.node, "lookup"), patient=_GLIBC_ROOM),
    Client("go", "Go", LIBRARIES, builds.go),
    Client(
        "java",
        "Java",
        LIBRARIES,
        builds.java,
        patient={**_GLIBC_ROOM, "pointer": "Java looks up the addresses of the name that it was given, and compares"},
    ),
    Client(
        "netty",
        "netty",
        LIBRARIES,
        builds.netty,
        is_vague=True,
        never={"any": "keeps only records of the type of the query"},
        patient=dict.fromkeys(
            (
                "missing",
                "foreign",
                "non-terminal",
                "alias",
                "alias-outside",
                "only-ipv4",
                "outside-missing",
                "outside-nodata",
                "localhost",
                "search-misses",
                "https",
                "svcb",
                "txt",
            ),
            _NETTY,
        ),
    ),
    Client(
        "dnspython",
        "dnspython",
        LIBRARIES,
        partial(builds.python, "with_dnspython", dns.version.version),
        never={
            "any": "does not send queries for ANY",
            "longest": "sends no query: with the suffix of its search list the name would be too long",
        },
    ),
    Client("nginx", "nginx", TOOLS, builds.nginx, searches=False, connects=True),
    Client(
        "busybox-nslookup",
        "busybox nslookup",
        TOOLS,
        partial(builds.tool, "busybox", "busybox-static", "nslookup"),
        never={"localhost": "looks up a name without a dot only with the suffixes of its search list"},
    ),
    Client(
        "busybox-wget",
        "busybox wget",
        TOOLS,
        partial(builds.tool, "busybox", "busybox-static", "wget"),
        connects=True,
        is_vague=True,
        patient=_GLIBC_ROOM,
    ),
    Client(
        "resolved",
        "systemd-resolved",
        TOOLS,
        builds.resolved,
        patient=dict.fromkeys(
            (
                "missing",
                "foreign",
                "non-terminal",
                "only-ipv4",
                "no-pointer",
                "outside-missing",
                "outside-nodata",
                "localhost",
                "search-misses",
            ),
            _RESOLVED,
        ),
    ),
    Client("dig", "dig", TOOLS, partial(builds.tool, "dig", "bind9-dnsutils"), patient={"hundred": _ONE_PROCESS_EACH}),
    Client(
        "kdig",
        "kdig",
        TOOLS,
        partial(builds.tool, "kdig", "knot-dnsutils"),
        searches=False,
        patient={"hundred": _ONE_PROCESS_EACH},
    ),
    Client(
        "drill",
        "drill",
        TOOLS,
        partial(builds.tool, "drill", "ldnsutils"),
        searches=False,
        patient={"hundred": _ONE_PROCESS_EACH},
    ),
    Client(
        "unbound-host",
        "unbound-host",
        TOOLS,
        partial(builds.tool, "unbound-host", "unbound-host"),
        searches=False,
        patient=dict.fromkeys(("alias", "alias-outside", "outside-chain"), _LIBUNBOUND),
    ),
    Client("sockets", "sockets by hand", TOOLS, partial(builds.python, "with_sockets", ""), searches=False),
)

BY_KEY = {client.key: client for client in CLIENTS}

NOT_TO_BE_HAD: Mapping[str, str] = {
    "musl 1.1.24 and older (Alpine 3.12 and older)": "no package has it any more; by its source it accepts more "
    "than 1.2.2 does: one half of the pair may be NXDOMAIN",
    "uClibc-ng": "no package of Debian has it; by its source it uses the partial reply of a truncated one, as musl "
    "1.2.3 does",
    "hickory-resolver": "needs Rust and some hundred crates to build; clients.md has its rules, taken from its source",
    "other versions of glibc": "the C library is the machine's own; of 2.31 to 2.41 only the source was read",
    "macOS, Windows": "no container runs them behind this resolver",
}
