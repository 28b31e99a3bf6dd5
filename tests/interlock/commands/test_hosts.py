"""``interlock host``: listed, drained, undrained, forgotten."""

from __future__ import annotations

import asyncio
import json

from store.credentials import Enrolment
from store.store import Store
from tests.admin.api import ROOT, Api, make_host
from tests.interlock.processes import run_here
from tests.worlds import lease_of
from watcher.session.token import EnrolmentToken

LEASE = 60_000  # milliseconds; longer than any test
H1, H2 = make_host(1, region="eu"), make_host(2, region="eu")


async def run(api: Api, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of ``interlock host`` with ``arguments``."""
    where = ("--api", f"http://127.0.0.1:{api.port}", "--token", ROOT)
    return await asyncio.to_thread(run_here, "host", *arguments, *where)


async def test_a_session(store: Store) -> None:
    async with Api(store) as api:
        for host in (H1, H2):
            await store.hosts.register(host)
        await store.leases.renew(lease_of("h1"), LEASE)
        async with store.connection.client() as redis:
            await redis.hset(store.connection.keys.hosts, "broken", b"{}")

        status, out, err = await run(api, "list")
        assert status == 0
        assert [line.split() for line in out.splitlines()[1:]] == [
            [host.id, "eu", host.endpoint, host.public_key, "no", live, "-", "-"]
            for host, live in ((H1, "yes"), (H2, "no"))
        ]
        assert err == "broken: its document in the store cannot be read: restart its agent, which registers it again\n"

        status, out, _ = await run(api, "drain", "h1")
        assert (status, out.splitlines()[1].split()[4:6]) == (0, ["yes", "yes"])
        assert (await store.hosts.read()).hosts["h1"].draining
        status, out, _ = await run(api, "undrain", "h1", "--json")
        assert (status, json.loads(out)["draining"]) == (0, False)
        assert not (await store.hosts.read()).hosts["h1"].draining

        await store.credentials.invite("h1", Enrolment("d", 1 << 50, ("production",)))
        await store.credentials.enrol("h1", "d", "f" * 64, 0)
        for given, wanted in (("staging,production", ["staging", "production"]), ("all", None)):
            status, out, _ = await run(api, "assign", "h1", given, "--json")
            assert (status, json.loads(out)["environments"]) == (0, wanted)

        status, _, err = await run(api, "forget", "h1")
        assert (status, "'h1' is alive" in err, err.count("\n")) == (1, True, 1)
        assert await run(api, "forget", "h2") == (0, "deleted the host h2\n", "")
        assert set((await store.hosts.read()).hosts) == {"h1"}
        assert await run(api, "rm", "h1", "--live") == (0, "deleted the host h1\n", "")
        assert (await store.hosts.read()).hosts == {}


async def test_an_enrolment(store: Store) -> None:
    async with Api(store) as api:
        status, out, err = await run(api, "enrol", "h7", "--environments", "production, staging", "--valid", "2d")
        assert status == 0
        token = EnrolmentToken.parse(out)
        made = (await store.credentials.enrolments())["h7"]
        assert (made.digest, made.environments) == (token.digest, ("production", "staging"))
        assert 0 <= await store.clock.milliseconds() + 2 * 86_400_000 - made.until < 60_000
        assert "interlock agent --host h7 --api https://ADDRESS:PORT --enrol @FILE-WITH-THE-TOKEN" in err
        assert "it may place instances in production, staging" in err
        status, out, _ = await run(api, "enrol", "h7", "--json")
        assert (status, json.loads(out)["environments"]) == (0, None)
        status, _, err = await run(api, "list")
        assert (status, err) == (0, "h7: may come, and its agent has not registered it yet\n")
        for time in ("x", "", "1w", "-1", "0", "0d", "8d"):
            status, _, err = await run(api, "enrol", "h7", "--valid", time)
            assert (status, "time" in err or "a token is valid for 1s to 7d, not for" in err) == (78, True), err


async def test_a_token_that_is_open_is_shown_for_a_host_that_is_registered(store: Store) -> None:
    async with Api(store) as api:
        await store.hosts.register(H1)
        assert (await run(api, "enrol", "h1"))[0] == 0
        _, out, err = await run(api, "list")
        assert (len(out.splitlines()), err.startswith("h1: a token by which it may enrol anew is valid until 2")) == (
            2,
            True,
        )
        over = Enrolment("d", await store.clock.milliseconds() - 1)
        await store.credentials.invite("h1", over)
        assert (await run(api, "list"))[2] == ""


async def test_an_environment_that_there_is_not_is_named(store: Store) -> None:
    async with Api(store) as api:
        assert (await api.put("/v1/environments/production", {})).status == 201
        await store.hosts.register(H1)
        status, _, err = await run(api, "enrol", "h1", "--environments", "production,nosuch")
        assert (status, err.splitlines()[-1][:35]) == (0, "there is no environment 'nosuch' ye")
        enrolment = (await store.credentials.enrolments())["h1"]
        await store.credentials.enrol("h1", enrolment.digest, "f" * 64, 0)
        status, _, err = await run(api, "assign", "h1", "production,nosuch")
        assert (status, err.count("\n"), "'nosuch'" in err) == (0, 1, True)
        assert await run(api, "assign", "h1", "all") == (0, (await run(api, "get", "h1"))[1], "")


async def test_one_that_there_is_not(store: Store) -> None:
    async with Api(store) as api:
        for command in ("drain", "undrain", "forget"):
            status, out, err = await run(api, command, "h9")
            assert (status, out, err.count("\n")) == (1, "", 1)
            assert "no host 'h9' is registered: its agent does that when it starts" in err
