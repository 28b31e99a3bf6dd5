"""Deletions: what goes is said, a person is asked, what was done is printed; as people type it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from store.store import Store
from tests.admin.api import ROOT, Api, E, make_host, make_key
from tests.interlock.processes import run_here
from tests.interlock.terminal import Seen, on_terminal
from tests.waiting import until_true
from tests.worlds import lease_of

pytestmark = pytest.mark.parametrize("store_url", ["valkey"], indirect=True)  # the commands see no difference
LEASE = 60_000  # milliseconds; longer than any test
IN = ("-e", "production")


class Commands:
    """The commands, as a user of an API runs them."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.where = ("--api", f"http://127.0.0.1:{api.port}", "--token", ROOT)

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(run_here, *arguments, *self.where)

    async def done(self, *arguments: str) -> str:
        """What a command prints that must succeed."""
        status, out, err = await self(*arguments)
        assert (status, err) == (0, "")
        return out

    async def seen(self, *arguments: str, answers: Any = (), **more: Any) -> Seen:
        """What a command shows on a terminal."""
        return await asyncio.to_thread(on_terminal, *arguments, *self.where, answers=answers, **more)


@pytest_asyncio.fixture
async def run(store: Store) -> AsyncIterator[Commands]:
    """The commands against an API with two environments; `production` has two services, a record and a peer."""
    async with Api(store, keep_deleted=3600) as api:
        await store.hosts.register(make_host(1))
        await store.leases.renew(lease_of("h1"), LEASE)
        await api.put(E, {})
        await api.put("/v1/environments/staging", {})
        edits: list[dict[str, Any]] = [{"op": "put-service", "name": one} for one in ("api", "web")]
        edits += [{"op": "put-instance", "service": "api", "id": one} for one in ("a1", "a2")]
        edits += [{"op": "put-record", "name": "db", "type": "TXT", "ttl": 60, "values": ["x"]}]
        edits += [{"op": "put-peer", "id": "laptop", "public_key": make_key(0xA1), "gateway": "h1"}]
        assert (await api.post(f"{E}/batch", {"edits": edits})).status == 200
        await api.put("/v1/environments/staging/services/old", {})
        yield Commands(api)


async def test_a_person_is_told_what_goes_and_asked(run: Commands) -> None:
    question = "Delete the environment production with 2 services, 2 instances, 1 record and 1 peer"
    no = await run.seen("env", "delete", "production", answers=[("[y/N]", "n")])
    assert (no.status, question in no.text) == (130, True)
    assert (await run.api.get(E)).status == 200
    yes = await run.seen("env", "rm", "production", answers=[("[y/N]", "y")])
    assert (yes.status, question in yes.text) == (0, True)
    assert "deleted the environment production with 2 services, 2 instances, 1 record and 1 peer" in yes.text
    assert (await run.api.get(E)).status == 404


async def test_an_environment_comes_back(run: Commands) -> None:
    network = (await run.api.get(E)).body["network"]
    out = await run.done("env", "rm", "production")
    assert "; 'interlock env undelete production' brings it back, until 20" in out
    assert (await run.done("env", "ls", "--deleted")).splitlines()[1].split()[0] == "production"
    assert network in await run.done("env", "undelete", "production")
    assert (await run.done("instance", "ls", *IN)).count("\n") == 3
    status, _, err = await run("env", "undelete", "production")
    assert (status, "delete it first" in err) == (1, True)


async def test_of_several_deleted_environments_the_others_are_named(run: Commands) -> None:
    await run.done("env", "rm", "production", "--yes")
    await run.done("env", "create", "production")
    deleted = json.loads(await run.done("env", "rm", "production", "--yes", "--json"))
    kept = json.loads(await run.done("env", "ls", "--deleted", "--json"))["environments"]
    assert deleted["until"] == kept[-1]["until"]
    revision = str(kept[0]["revision"])
    status, _, err = await run("env", "undelete", "production")
    assert (status, f"of revision {revision}, with 2 services" in err) == (0, True), err
    assert f"'interlock env undelete production --revision {revision}'" in err
    await run.done("env", "rm", "production", "--yes")
    status, _, err = await run("env", "undelete", "production", "--revision", revision)
    assert (status, "with 0 services" in err) == (0, True), err
    assert (await run.done("service", "ls", *IN)).count("\n") == 3


async def test_an_instance_becomes_unmanaged_again(run: Commands) -> None:
    await run.done("instance", "put", "api", "a1", "--host", "h1", *IN)
    assert "unmanaged" in await run.done("instance", "put", "api", "a1", "--host", "", *IN)


async def test_nobody_is_asked_with_yes_or_without_a_terminal(run: Commands) -> None:
    seen = await run.seen("instance", "delete", "api", "a1", *IN, "--yes")
    assert seen.text == "deleted the instance a1 of api in production\n"
    assert await run.done("instance", "rm", "api", "a2", *IN) == "deleted the instance a2 of api in production\n"
    assert await run.done("record", "rm", "db", "txt", *IN) == "deleted the record db TXT of production\n"
    assert await run.done("peer", "rm", "laptop", *IN) == "deleted the peer laptop of production\n"
    assert json.loads(await run.done("service", "rm", "api", *IN, "--json")) == {
        "deleted": {"environment": "production", "service": "api"}, "with": {"instances": 0}
    }  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("env", "rm", "prod"), ("service", "rm", "ap", *IN), ("instance", "rm", "api", "a9", *IN),
        ("record", "rm", "db", "A", *IN), ("peer", "rm", "phone", *IN), ("token", "rm", "0" * 12, *IN),
        ("host", "rm", "h9"),
    ],
)  # fmt: skip
async def test_what_there_is_not_is_an_error_before_anybody_is_asked(run: Commands, words: tuple[str, ...]) -> None:
    status, out, err = await run(*words)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert words[0] == "host" or "?" not in (await run.seen(*words, answers=[("[y/N]", "n")])).text


async def test_a_token_is_named_by_what_it_is_for(run: Commands) -> None:
    await run.done("token", "create", "deploys", *IN)
    ((_, id_),) = [("", one["id"]) for one in json.loads(await run.done("token", "ls", *IN, "--json"))["tokens"]]
    assert "deploys" in await run.done("token", "get", id_, *IN)
    assert await run.done("token", "rm", id_, *IN) == f"deleted the token {id_} (deploys)\n"


async def test_lists_of_all(run: Commands) -> None:
    everywhere = (await run.done("service", "ls", "--all")).splitlines()
    assert [line.split()[:2] for line in everywhere[1:]] == [
        ["production", "api"], ["production", "web"], ["staging", "old"],
    ]  # fmt: skip
    for words, wanted in (((*IN,), ["api", "a1"]), (("-A",), ["production", "api", "a1"]), (("api", *IN), ["a1"])):
        lines = (await run.done("instance", "ls", *words)).splitlines()
        assert lines[1].split()[: len(wanted)] == wanted
        assert len(lines) == 3
    for noun in ("record", "peer"):
        assert (await run.done(noun, "ls", "-A")).splitlines()[1].split()[0] == "production"


async def test_get_of_everything(run: Commands) -> None:
    for words, wanted in (
        (("env", "production"), "2 services, 2 instances, 1 record, 1 peer"),
        (("service", "api", *IN), "api"),
        (("instance", "api", "a1", *IN), "ready"),
        (("record", "db", *IN), "TXT"),
        (("record", "db", "TXT", *IN), "TXT"),
        (("peer", "laptop", *IN), "h1"),
        (("host", "h1"), "192.0.2.1:51820"),
    ):
        assert wanted in await run.done(words[0], "get", *words[1:])
        assert json.loads(await run.done(words[0], "show", *words[1:], "--json"))
    status, _, err = await run("record", "get", "nothing", *IN)
    assert (status, "'interlock record list' shows all" in err) == (1, True)


async def test_colours_are_for_terminals_whose_users_want_them(run: Commands) -> None:
    plain = await run.seen("instance", "ls", *IN, environ={"NO_COLOR": "1"})
    assert "\x1b" not in plain.raw
    coloured = await run.seen("instance", "ls", *IN)
    assert "\x1b[32mready" in coloured.raw
    assert coloured.text == plain.text


async def test_tables_fit_the_terminal(run: Commands) -> None:
    seen = await run.seen("host", "ls")
    assert max(map(len, seen.text.splitlines())) <= 80
    assert "(cut to 80 columns: a wider terminal, a pipe or --json shows all)" in seen.text


async def test_names_complete(run: Commands) -> None:
    async def offered(words: str) -> set[str]:
        where = " ".join(run.where)
        line = words.replace(" @ ", f" {where} ")
        environ = {"_INTERLOCK_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        seen = await asyncio.to_thread(on_terminal, environ=environ)
        return {one.partition(",")[2] for one in seen.text.split()}

    assert await offered("interlock env get @ pro") == {"production"}
    assert await offered("interlock service list @ -e ") == {"production", "staging"}
    assert await offered("interlock service get @ -e production ") == {"api", "web"}
    assert await offered("interlock instances rm @ -e production api ") == {"a1", "a2"}
    assert await offered("interlock host drain @ ") == {"h1"}
    assert await offered("interlock env get --api http://127.0.0.1:9 --token x pro") == set()


async def test_wait_returns_once_all_hosts_have_it(run: Commands, store: Store) -> None:
    waiting = asyncio.create_task(run("service", "put", "web", "--port", "http:80", *IN, "--wait"))

    async def is_written() -> bool:
        return bool((await run.api.get(f"{E}/services/web")).body["ports"])

    await until_true(is_written)
    revision = (await run.api.get(E)).body["revision"]
    assert (await run.api.get(f"{E}/revisions/{revision}")).body["behind"] == ["h1"]
    assert not waiting.done()
    await store.acks.acknowledge(lease_of("h1"), {"production": revision})
    assert (await waiting)[0] == 0


async def test_an_instance_is_waited_for(run: Commands, store: Store) -> None:
    await run.done("instance", "put", "api", "a1", "--state", "starting", *IN)
    status, _, err = await run("instance", "wait", "api", "a1", "--timeout", "0.3", *IN)
    assert (status, "'a1' of 'api' is starting after 0.3 s, not ready" in err) == (1, True)
    waiting = asyncio.create_task(run.seen("instance", "wait", "api", "a1", *IN, environ={"NO_COLOR": "1"}))
    await run.done("instance", "put", "api", "a1", "--state", "ready", *IN)
    await store.acks.acknowledge(lease_of("h1"), {"production": (await run.api.get(E)).body["revision"]})
    seen = await waiting
    assert (seen.status, "ready" in seen.text) == (0, True)


async def test_all_instances_on_a_host(run: Commands) -> None:
    await run.api.put("/v1/environments/staging/services/old/instances/o1", {"host": "h1"})
    for id_ in ("a1", "a2"):
        await run.api.put(f"{E}/services/api/instances/{id_}", {"host": "h1"})
    await run.api.put(f"{E}/services/api/instances/a3", {})
    status, _, err = await run("host", "forget", "h1", "--live", "--yes")
    assert status != 0
    assert "on the host 'h1' are a1.api of production, a2.api of production" in err
    assert "interlock instance delete --host h1" in err
    assert await run.done("instance", "delete", "--host", "h1", "--yes", *IN) == "deleted 2 instances on the host h1\n"
    left = (await run.api.get(f"{E}/services/api/instances")).body["instances"]
    assert [(one["id"], one["placement"]) for one in left] == [("a3", "unmanaged")]
    out = await run.done("instance", "delete", "--host", "h1", "--all", "--yes", "--json")
    assert json.loads(out)["deleted"] == {"host": "h1", "instances": ["o1.old"]}
    status, _, err = await run("instance", "delete", "api")
    assert (status, "--host HOST" in err) == (78, True)


async def test_a_host_that_is_forgotten_with_its_instances(run: Commands) -> None:
    await run.api.put(f"{E}/services/api/instances/a1", {"host": "h1"})
    forgotten = await run.done("host", "forget", "h1", "--live", "--instances", "--yes")
    assert forgotten == "deleted the host h1\n"
    shown = await run.done("instance", "get", "api", "a1", *IN)
    assert shown.split()[-3:] == ["h1", "not", "attached"]
