"""External peers: added, given another key or gateway, cut off; and the configuration of one."""

from __future__ import annotations

from typing import Any

import pytest

from store.credentials import Enrolment
from tests.admin.api import Api, E, make_host, make_key

KEY = make_key(0xA1)
PEERS = f"{E}/peers"
LAPTOP = f"{PEERS}/laptop"


async def test_added_with_an_address_and_a_gateway_of_its_own(hosted: Api) -> None:
    network = (await hosted.get(E)).body["network"]
    made = await hosted.put(LAPTOP, {"public_key": KEY})
    assert (made.status, made.revision) == (201, 6)
    address = network.replace("::/48", "::100")
    laptop = {"id": "laptop", "public_key": KEY, "address": address, "gateway": "h2"}
    assert made.body == {**laptop, "revision": 6}
    assert (await hosted.get(LAPTOP)).body == made.body
    assert (await hosted.get(E)).body["peers"] == [laptop]
    index = await hosted.store.environments.index()
    assert [entry.hosts for entry in index.values()] == [frozenset({"h2"})]


async def test_what_is_left_out_stays(hosted: Api) -> None:
    await hosted.put(LAPTOP, {"public_key": KEY, "gateway": "h1"})
    other = make_key(0xA2)
    for body, expected in (
        ({}, (KEY, "h1", 6)),
        ({"public_key": KEY, "gateway": "h1"}, (KEY, "h1", 6)),
        ({"public_key": other}, (other, "h1", 7)),
        ({"gateway": "h2"}, (other, "h2", 8)),
    ):
        changed = await hosted.put(LAPTOP, body)
        assert changed.status == 200
        assert (changed.body["public_key"], changed.body["gateway"], changed.body["revision"]) == expected
        assert changed.body["address"].endswith("::100")


async def test_cut_off_and_its_address_is_not_given_again(hosted: Api) -> None:
    await hosted.put(LAPTOP, {"public_key": KEY})
    gone = await hosted.delete(LAPTOP)
    assert (gone.status, gone.revision) == (204, 7)
    for answer in (await hosted.get(LAPTOP), await hosted.get(f"{LAPTOP}/config"), await hosted.delete(LAPTOP)):
        assert answer.problem == "missing"
    assert (await hosted.put(LAPTOP, {"public_key": KEY})).body["address"].endswith("::101")


async def test_one_machine_in_two_environments(hosted: Api) -> None:
    await hosted.put("/v1/environments/staging", {})
    networks = set()
    for environment in ("production", "staging"):
        made = await hosted.put(f"/v1/environments/{environment}/peers/laptop", {"public_key": KEY})
        assert made.status == 201
        networks.add(made.body["address"].partition("::")[0])
    assert len(networks) == 2


# Refused requests; laptop exists already, with h1 as its gateway
REFUSED: list[tuple[str, Any, int, str, str]] = [
    (LAPTOP, {"public_key": "nonsense"}, 400, "public_key", "32 octets in base64"),
    (LAPTOP, {"public_key": KEY[:-2] + "F="}, 400, "public_key", "32 octets in base64"),
    (LAPTOP, {"public_key": make_key(0)}, 400, "public_key", "all zeros"),
    (LAPTOP, {"public_key": None}, 400, "public_key", "expected `str`"),
    (LAPTOP, {"gateway": "H 1"}, 400, "gateway", "cannot be a host id"),
    (LAPTOP, {"address": "fd12::1"}, 400, "address", "unknown field"),
    (LAPTOP, {"gateway": "h9"}, 409, "gateway", "no host 'h9' is registered"),
    (LAPTOP, {"gateway": "h3"}, 409, "gateway", "'h3' is draining"),
    (LAPTOP, {"public_key": make_key(4)}, 409, "public_key", "that of the host 'h4'"),
    (LAPTOP, {"public_key": make_key(0xB2)}, 409, "public_key", "that of the host 'h2'"),  # its next one
    (f"{PEERS}/phone", {"public_key": KEY}, 409, "public_key", "have one public key"),
    (f"{PEERS}/phone", {}, 400, "public_key", "a new peer needs a public key"),
    (f"{PEERS}/Phone", {"public_key": make_key(0xA2)}, 400, "id", "cannot be a peer id"),
]


@pytest.mark.parametrize(("path", "body", "status", "field", "said"), REFUSED)
async def test_refused_with_the_field(hosted: Api, path: str, body: Any, status: int, field: str, said: str) -> None:
    await hosted.put(LAPTOP, {"public_key": KEY, "gateway": "h1"})
    await hosted.store.hosts.register(make_host(2, next_public_key=make_key(0xB2)))
    refused = await hosted.put(path, body)
    assert (refused.status, refused.body.get("field")) == (status, field), refused.body
    assert said in refused.body["detail"]
    assert (await hosted.get(E)).body["revision"] == 6


async def test_a_peer_stays_with_a_gateway_that_is_draining(hosted: Api) -> None:
    await hosted.put(LAPTOP, {"public_key": KEY, "gateway": "h1"})
    await hosted.put("/v1/hosts/h1", {"draining": True})
    rekeyed = await hosted.put(LAPTOP, {"public_key": make_key(0xA2), "gateway": "h1"})
    assert (rekeyed.status, rekeyed.body["gateway"]) == (200, "h1")


async def test_no_host_that_could_be_the_gateway(production: Api) -> None:
    await production.store.hosts.register(make_host(1))
    refused = await production.put(LAPTOP, {"public_key": KEY})
    assert (refused.status, refused.body["field"]) == (409, "gateway")
    assert "none is alive, not draining and not behind NAT" in refused.body["detail"]


async def test_a_host_that_was_enrolled_for_other_environments_is_not_chosen(hosted: Api) -> None:
    for host in ("h1", "h2"):
        await hosted.store.credentials.invite(host, Enrolment(host, 1 << 50, ("staging",) if host == "h1" else None))
        await hosted.store.credentials.enrol(host, host, "f" * 64, 0)
    chosen = {
        (await hosted.put(f"{PEERS}/p{number}", {"public_key": make_key(number)})).body["gateway"]
        for number in range(0xB0, 0xC0)
    }
    assert chosen == {"h2"}


async def test_a_peer_needs_its_environment(hosted: Api) -> None:
    refused = await hosted.put("/v1/environments/nosuch/peers/laptop", {"public_key": KEY})
    assert (refused.problem, refused.body["field"]) == ("missing", "environment")


async def test_under_a_condition(hosted: Api) -> None:
    only_new = {"If-None-Match": "*"}
    assert (await hosted.put(LAPTOP, {"public_key": KEY}, headers=only_new)).status == 201
    assert (await hosted.put(LAPTOP, {"public_key": make_key(0xA2)}, headers=only_new)).status == 412
    shown = await hosted.get(LAPTOP)
    assert shown.body["public_key"] == KEY
    assert (await hosted.get(LAPTOP, headers={"If-None-Match": shown.headers["ETag"]})).status == 304
    assert (await hosted.delete(LAPTOP, headers={"If-Match": '"5"'})).status == 412


async def test_listed_by_page(hosted: Api) -> None:
    for number, peer in enumerate(("phone", "laptop")):
        await hosted.put(f"{PEERS}/{peer}", {"public_key": make_key(0xA1 + number)})
    first = (await hosted.get(f"{PEERS}?limit=1")).body
    assert ([peer["id"] for peer in first["peers"]], first["next"], first["revision"]) == (["laptop"], "laptop", 7)
    last = (await hosted.get(f"{PEERS}?limit=1&after=laptop")).body
    assert ([peer["id"] for peer in last["peers"]], last["next"]) == (["phone"], None)


# The configuration


@pytest.mark.parametrize(
    ("query", "names"), [("", "PostUp = "), ("?form=wg-quick", "PostUp = "), ("?form=app", "DNS = ")]
)
async def test_the_configuration(hosted: Api, query: str, names: str) -> None:
    peer = (await hosted.put(LAPTOP, {"public_key": KEY, "gateway": "h1"})).body
    shown = await hosted.get(f"{LAPTOP}/config{query}")
    assert shown.status == 200
    assert shown.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "ETag" not in shown.headers
    for line in (f"Address = {peer['address']}/128", f"PublicKey = {make_key(1)}", "Endpoint = 192.0.2.1:51820"):
        assert line in shown.body.splitlines()
    assert f"\n{names}" in shown.body


async def test_the_configuration_follows_the_gateway(hosted: Api) -> None:
    await hosted.put(LAPTOP, {"public_key": KEY, "gateway": "h4"})
    await hosted.store.hosts.register(make_host(4, next_public_key=make_key(0xB4)))
    await hosted.put(LAPTOP, {"gateway": "h2"})
    assert f"PublicKey = {make_key(2)}\n" in (await hosted.get(f"{LAPTOP}/config")).body
    await hosted.put(LAPTOP, {"gateway": "h4"})
    await hosted.store.hosts.forget("h4")
    refused = await hosted.get(f"{LAPTOP}/config")
    assert (refused.status, refused.body["field"]) == (409, "gateway")
    assert "no longer registered: give the peer another" in refused.body["detail"]


async def test_an_unknown_form(hosted: Api) -> None:
    refused = await hosted.get(f"{LAPTOP}/config?form=pdf")
    assert (refused.status, refused.body["field"]) == (400, "form")
