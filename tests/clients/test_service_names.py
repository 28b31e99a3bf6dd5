"""Names of services in the clients' hands: their own service's, one with an underscore, and a number.

Which instance of its own service does an instance connect to? getaddrinfo orders addresses by RFC 6724, whose rule 9
puts the one that shares the longest prefix with the caller's own address first. So it always gets the same one, itself
if it is ready, whatever the server's order. `one.<service>` is the way out: it has one address, each time another. (Go
compares no more than the first 64 bits, as RFC 6724 §2.2 has it, and so takes the server's order.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.clients import matrix, namespaces, world
from tests.clients.builds import Unavailable
from tests.clients.matrix import Ground
from tests.clients.roster import BY_KEY
from tests.clients.session import Session
from zones.model import State

CLIENTS = {"glibc": "s03", "musl-debian": "s06", "musl-1.2.2": "s09", "go": "s12"}  # which of the instances each one is
LOOK_UPS = 64
INSTANCES = 16  # of the service `sixteen`

pytestmark = pytest.mark.skipif(bool(matrix.why_not()), reason=f"no clients in namespaces: {matrix.why_not()}")


@pytest.fixture(scope="module")
def where() -> Iterator[Ground]:
    namespaces.sweep()
    with matrix.ground() as ground:
        yield ground


def first_addresses(session: Session, name: str) -> Counter[str]:
    """How often each address came first, of so many look-ups of ``name``."""
    first: Counter[str] = Counter()
    for _ in range(LOOK_UPS):
        outcome = session.ask(f"6 {name}.{world.SUFFIX}")
        assert outcome.status == "ok", outcome
        first[outcome.items[0]] += 1
    return first


@pytest.mark.parametrize("key", CLIENTS)
def test_an_alias_with_an_underscore_is_found_and_a_number_is_not_looked_up(key: str, where: Ground) -> None:
    """Why compose's `my_db` may be an alias of the service `my-db`, and why no service is called `123`."""
    try:
        build = BY_KEY[key].make()
    except Unavailable as error:
        pytest.skip(f"{key} cannot be had: {error}")
    instances = world.production().services["api"].instances.values()
    with where.session(build) as session:
        alias = session.ask(f"6 my_db.{world.SUFFIX}")
        assert (alias.status, set(alias.items)) == ("ok", {str(instance.address) for instance in instances})
        number = session.ask("any 123")
        if key != "go":  # which asks for it, and would find it
            assert (number.status, number.items) == ("ok", ("0.0.0.123",))
            assert not number.traffic.queries


@pytest.mark.parametrize("key", CLIENTS)
def test_one_of_a_service_spreads_the_calls_of_its_own_instances(key: str, where: Ground) -> None:
    try:
        build = BY_KEY[key].make()
    except Unavailable as error:
        pytest.skip(f"{key} cannot be had: {error}")
    instances = world.production().services["sixteen"].instances
    assert {instance.state for instance in instances.values()} == {State.READY}
    own = str(instances[CLIENTS[key]].address)
    with where.session(build, member=own) as session:
        by_name = first_addresses(session, "sixteen")
        by_one = first_addresses(session, "one.sixteen")
    print(f"{key}: sixteen {dict(by_name)}, one.sixteen {dict(by_one)}")
    assert len(by_one) == INSTANCES
    assert max(by_one.values()) <= 2 * LOOK_UPS / INSTANCES
    # The reason for the name: without it, all calls go to the caller itself. If this fails, libraries have changed.
    assert (by_name == {own: LOOK_UPS}) == (key != "go")
