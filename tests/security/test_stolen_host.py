"""A stolen host: with everything that lies on its disk and in its memory, it owns itself and nothing else.

The thief has the host's credential, its incarnation and its WireGuard keys, and the addresses of the control plane, of
the admin API and of the store. It sends every request of the session protocol with every name that it could guess,
every call of the API with everything that could be taken for a token, and every command of the store. What it reads and
what it changes is counted. (What the user of a resolver can send, which no host of the mesh has, is counted by
`tests/store/test_users.py`.)
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from cryptography import x509
from redis.asyncio import Redis

from admin.auth.access import Access
from admin.routes import ROUTES
from store.store import Store
from tests.admin.api import Api
from tests.admin.hosts.agents import ControlPlane, Files, LightAgent, Refused, WireGuardKey, enrol, new_key
from tests.store.test_users import attempts, batches, contents
from tests.store.users import ADMIN, BINARIES, WATCHING, Users, with_users
from tests.waiting import cancel
from watcher.session.protocol import (
    ALL_HOSTS,
    AUTHORITY_PATH,
    CONTROL_PLANE_NAME,
    ENROLMENT_PATH,
    SESSION_PATH,
    Acknowledge,
    AskFate,
    AskGone,
    AskState,
    Certify,
    EnvironmentIs,
    HostIs,
    Leave,
    PutInstance,
    Register,
    RemoveInstance,
    Renew,
    SetState,
    Wait,
)
from zones.hosts import Host
from zones.model import State
from zones.names import EnvironmentId

OWN, SHARED_WITH = "production", "h2"  # the host's environment, and the other host in it
OTHERS = {"staging": "h2", "payments": "h3"}  # environment → the host that has a member of it
SERVICE, SECRET = (
    "vault",
    "the-secret-of-",
)  # in each environment a service, and a TXT record that only members may read
NAMED = {
    "environment": "staging", "service": SERVICE, "instance": "on-h2", "name": "secret", "type": "TXT",
    "peer": "laptop", "host": "h2", "revision": "1", "token_id": "0" * 12,
}  # fmt: skip
MISSED, LOOKED = "interlock:hosts:missed", b"@looked"
GUESSES = [*OTHERS, OWN, "no-such-environment", "@hosts", "../staging", "staging ", "*", ""]


@dataclass
class World:
    """A platform of three hosts and three environments, and the thief's session."""

    users: Users
    api: Api
    plane: ControlPlane
    files: Files
    thief: LightAgent
    agents: dict[str, LightAgent]
    counted: Counter[str] = field(default_factory=Counter)

    async def attempt(self, kind: Any, *arguments: Any, **fields: Any) -> Any:
        """Sends a request; None where it is refused."""
        self.counted["sent"] += 1
        try:
            answer = await self.thief.do(kind, *arguments, **fields)
        except Refused as refused:
            self.counted[refused.kind] += 1
            return None
        self.counted["done"] += 1
        return answer


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with (
        with_users(str(BINARIES["valkey"]), tmp_path) as users,
        users.store(ADMIN) as store,
        Api(store) as api,
        ControlPlane(store) as plane,
        joined(api, plane) as agents,
    ):
        for environment, hosts in ((OWN, ("h1", "h2")), *((id_, (host,)) for id_, host in OTHERS.items())):
            await furnish(api, environment, hosts)
        thief = agents["h1"]
        await thief.wait_until(lambda heard: OWN in heard.environments and set(heard.hosts) == {"h1", "h2"})
        yield World(users, api, plane, thief.files, thief, agents)


@asynccontextmanager
async def joined(api: Api, plane: ControlPlane) -> AsyncIterator[dict[str, LightAgent]]:
    agents: dict[str, LightAgent] = {}
    for number in (1, 2, 3):
        host = f"h{number}"
        body = {"environments": [OWN]} if host == "h1" else {}
        made = await api.post(f"/v1/hosts/{host}/enrolments", body)
        agents[host] = agent = LightAgent(plane.url, await enrol(plane.url, host, made.body["token"]), f"i{number}")
        await agent.__aenter__()
        await agent.join(f"192.0.2.{number}:51820")
    living = asyncio.create_task(keep_alive(agents))
    try:
        yield agents
    finally:
        await cancel(living)
        for agent in agents.values():
            await agent.__aexit__()


async def keep_alive(agents: Mapping[str, LightAgent]) -> None:
    """Renews the leases of the hosts, as their agents do."""
    while True:
        for agent in agents.values():
            with suppress(ConnectionError, Refused):
                await agent.do(Renew, True)
        await asyncio.sleep(1.0)


async def furnish(api: Api, environment: str, hosts: tuple[str, ...]) -> None:
    path = f"/v1/environments/{environment}"
    assert (await api.put(path, {})).status == 201
    assert (await api.put(f"{path}/services/{SERVICE}", {})).status == 201
    for host in hosts:
        assert (await api.put(f"{path}/services/{SERVICE}/instances/on-{host}", {"host": host})).status == 201
    values = {"ttl": 60, "values": [SECRET + environment]}
    assert (await api.put(f"{path}/records/secret/TXT", values)).status == 201
    assert (await api.post(f"{path}/tokens", {"name": "of a tenant"})).status == 201


async def test_a_stolen_host_owns_only_itself_by_its_session(world: World) -> None:
    before = await belongings(world.users)
    thief = world.thief
    everybody = (await world.api.store.hosts.read()).hosts
    addresses = [None, *{str(one) for one in await all_addresses(world.api.store)}]
    services, instances = (SERVICE, "made-up"), ("on-h1", "on-h2", "on-h3", "made-up")
    for environment, service, instance in itertools.product(map(EnvironmentId, GUESSES), services, instances):
        named = (environment, service, instance)
        if environment == OWN and instance in ("on-h1", "made-up"):
            continue  # its own
        for state in State:
            await world.attempt(PutInstance, *named, state)
            await world.attempt(SetState, *named, state)
        for address in addresses:
            await world.attempt(PutInstance, *named, State.READY, address)
            await world.attempt(RemoveInstance, *named, address)
            fate = await world.attempt(AskFate, *named, 0, address)
            assert fate is None or environment == OWN or fate.fate == "unknown", (named, fate)
    await claim_all(world, everybody)
    await ask_all(world)
    assert await belongings(world.users) == before, "something that is not the host's was changed"

    heard = [one for one in thief.heard if isinstance(one, EnvironmentIs)]
    read = {one.id for one in heard} - {OWN}
    told = {one.host.id for one in thief.heard if isinstance(one, HostIs)} - {"h1", SHARED_WITH}
    shown = [text for text in secrets(everybody) if any(text in str(one) for one in thief.heard)]
    print(f"{dict(world.counted)}: {len(read)} documents of other environments read, 0 writes outside itself accepted")
    assert (read, told, shown) == (set(), set(), [])
    assert world.counted["sent"] > 500


async def test_a_stolen_host_has_no_session_but_its_own(world: World) -> None:
    thief = world.thief
    for host in ("h2", "h3"):
        renamed = Files(host, thief.files.key, thief.files.certificate, thief.files.authority)
        async with LightAgent(world.plane.url, renamed, "i2") as agent:
            with pytest.raises(Refused, match="lease"):
                await agent.do(Renew, True)
            assert agent.welcome.host is not None
            assert agent.welcome.host.id == "h1"  # the certificate says who it is
    before = await belongings(world.users)
    async with LightAgent(world.plane.url, thief.files, "copy") as copy:
        for kind, arguments in ((Renew, (True,)), (Leave, ()), (Acknowledge, ({OWN: 1},))):
            with pytest.raises(Refused, match="lease"):
                await copy.do(kind, *arguments)
    assert await belongings(world.users) == before
    assert (await world.api.delete("/v1/hosts/h1?confirm=live,instances")).status == 204
    assert await thief.wait_for_end() == 4403


async def test_a_stolen_host_has_no_use_of_the_api(world: World) -> None:
    before = await kept(world.users)
    found = known_to(world)
    counted = Counter[str]()
    for route in ROUTES:
        path = route.path
        for name, value in NAMED.items():
            path = path.replace(f"{{{name}}}", value)
        for token in ("", *found):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            body: Any = None if route.method in ("GET", "DELETE") else {}
            answer = await world.api.send(route.method, path, body, token="", headers=headers)
            counted[str(answer.status)] += 1
            if route.access is not Access.OPEN:
                assert answer.status in (401, 429), (route, answer)
            assert SECRET not in json.dumps(answer.body, default=str)
    print(f"{counted.total()} calls of the API: {dict(counted)}")
    assert await kept(world.users) == before


async def test_a_stolen_host_has_no_use_of_what_agents_are_served(world: World) -> None:
    before = await kept(world.users)
    tls = world.files.tls()
    async with ClientSession() as http:
        for method, path in itertools.product(
            ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"),
            (AUTHORITY_PATH, ENROLMENT_PATH, SESSION_PATH, "/", "/v1/hosts", "/v1/environments", "/metrics", "/readyz"),
        ):
            sent = http.request(method, world.plane.url + path, ssl=tls, server_hostname=CONTROL_PLANE_NAME, data=b"{}")
            async with sent as reply:
                is_known = (method, path) == ("GET", AUTHORITY_PATH)
                assert (reply.status == 200) is is_known, (method, path, reply.status)
                assert "PRIVATE" not in await reply.text()
    assert await kept(world.users) == before


async def test_a_stolen_host_has_no_use_of_the_store(world: World) -> None:
    before = await kept(world.users)
    async with world.users.client(WATCHING) as watching:
        commands = await watching.execute_command("COMMAND")
    keys = ["interlock:environment:staging", "interlock:tokens", "interlock:authority"]
    for password in ("", *(one for one in known_to(world) if " " not in one and "\n" not in one)):
        user = f":{quote(password, safe='')}@" if password else ""
        client: Any = Redis.from_url(f"redis://{user}127.0.0.1:{world.users.server.port}/0", protocol=2)
        sent = answered = 0
        for batch in batches(attempts(commands, keys)) if not password else iter([[("GET", keys[0])]]):
            async with client.pipeline(transaction=False) as pipe:
                for one in batch:
                    pipe.execute_command(*one)
                try:
                    replies = await pipe.execute(raise_on_error=False)
                except Exception as error:  # noqa: BLE001 the connection itself is refused
                    replies = [error] * len(batch)
            sent += len(replies)
            answered += sum(not isinstance(reply, Exception) for reply in replies)
        await client.aclose()
        print(f"{sent} commands sent to the store, {answered} answered")
        assert answered == 0
    assert await kept(world.users) == before


async def claim_all(world: World, everybody: Mapping[str, Host]) -> None:
    """Registers documents with which the thief would be another host, or stand in its place."""
    challenge, key = world.thief.welcome.challenge, WireGuardKey()
    for host, known in everybody.items():
        for claimed in claims(host, known, key, world.thief.wireguard):
            keys = {claimed.public_key, claimed.next_public_key}
            if host == "h1" and keys <= {world.thief.wireguard.public, key.public, None}:
                continue  # itself
            proofs = {one.public: one.prove("h1", challenge) for one in (key, world.thief.wireguard)}
            proofs.setdefault(claimed.public_key, key.prove(claimed.id, challenge))
            assert await world.attempt(Register, claimed, proofs) is None


async def ask_all(world: World) -> None:
    """Everything else that can be asked."""
    for guess in GUESSES:
        if guess not in (OWN, ALL_HOSTS):
            await world.attempt(Acknowledge, {guess: 10**6})
            assert await world.attempt(Wait, guess, 1, 0.0) is None
    foreign = [guess for guess in GUESSES if guess not in (OWN, ALL_HOSTS)]
    gone = [await world.attempt(AskGone, (guess,)) for guess in foreign]
    # The same of those that exist and of those that do not.
    assert [list(one.environments) for one in gone if one] == [
        [guess] for guess, one in zip(foreign, gone, strict=True) if one
    ]
    state = await world.attempt(AskState)
    assert set(state.live) == {"h1", "h2"}
    assert set(state.acknowledged) == {OWN, ALL_HOSTS}
    for host in ("h2", "h3"):  # a certificate for another host's name is for its own all the same
        certified = await world.attempt(Certify, Files(host, new_key()).request())
        assert names_of(certified.certificate) == "CN=h1"


def claims(host: str, known: Host, key: WireGuardKey, own: WireGuardKey) -> Iterator[Host]:
    """Documents with which the thief would be ``host``, or stand in its place."""
    yield known
    yield Host(host, known.endpoint, key.public)
    yield Host("h1", known.endpoint, known.public_key)
    yield Host("h1", known.endpoint, own.public)
    yield Host("h1", "192.0.2.1:51820", known.public_key)
    yield Host("h1", "192.0.2.1:51820", key.public, next_public_key=known.public_key)


def known_to(world: World) -> list[str]:
    """All words that lie on the host, or that it has heard, and that somebody might take for a token."""
    certificate = world.files.certificate
    return [
        world.thief.incarnation * 8,
        world.thief.wireguard.public,
        "".join(certificate.splitlines()[1:-1])[:64],
        f"ile_{'A' * 64}",
        f"ilk_{'A' * 43}",
        "interlock-agent",
    ]


def names_of(certificate: str) -> str:
    return x509.load_pem_x509_certificate(certificate.encode()).subject.rfc4514_string()


def secrets(hosts: Any) -> list[str]:
    """What nobody on h1 has any business with."""
    return [*(SECRET + environment for environment in OTHERS), hosts["h3"].public_key, hosts["h3"].endpoint]


async def all_addresses(store: Store) -> list[Any]:
    found = []
    for environment in OTHERS:
        _, read = await store.environments.read(EnvironmentId(environment))
        assert read
        found += [one.address for one in read.services[SERVICE].instances.values()]
    return found


async def kept(users: Users) -> dict[str, Any]:
    """All that the store holds, but the leases, which end and are renewed, and when the platform looked at them."""
    found: dict[str, Any] = {key: value for key, value in (await contents(users)).items() if ":lease:" not in key}
    async with users.client(WATCHING) as redis:
        found[MISSED] = without_look(await redis.hgetall(MISSED))
    return found


def without_look(missed: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The hosts whose leases were ``missed``, without the time at which a control plane last looked for them.

    It looks all the time, whatever a host does. That a lease was missed, or a host is down, is compared.
    """
    return {field: value for field, value in missed.items() if field != LOOKED}


async def belongings(users: Users) -> dict[str, Any]:
    """All that the store holds and that is not the stolen host's: every key, without what is its own in it."""
    async with users.client(WATCHING) as redis:
        found: dict[str, Any] = {}
        for key in sorted([key.decode() async for key in redis.scan_iter("*")]):
            kind = (await redis.type(key)).decode()
            name = key.removeprefix("interlock:")
            if name in ("changes", "hosts:revision", "lease:h1", "claim:h1"):  # of a lease only the holder counts
                continue
            if kind == "hash":
                fields = await redis.hgetall(key)
                fields = without_look(fields) if key == MISSED else fields
                found[name] = {field: value for field, value in fields.items() if field != b"h1"}
            elif kind == "stream":  # who has changed an environment by the API
                found[name] = await redis.xrange(key)
            else:
                found[name] = await redis.get(key)
        found.setdefault(MISSED.removeprefix("interlock:"), {})  # nobody may have looked yet
        own = json.loads(found.pop(f"environment:{OWN}"))
        own.pop("revision")
        service = own["services"][SERVICE]
        service.pop("last_number")  # it may place instances on itself in its own environment
        service["instances"] = {id_: one for id_, one in service["instances"].items() if one["host"] != "h1"}
        found["own"] = own
        found["environments"].pop(OWN.encode())
    return found
