"""The doctor of a control plane, on a real store."""

from __future__ import annotations

import pytest

from admin.resources.operations import Probe
from interlock.doctor.service import DoctorService
from store.credentials import Enrolment
from store.store import Store
from tests import worlds
from zones.errors import Invalid, Missing
from zones.names import EnvironmentId, Name

HERE = "railway.internal."


@pytest.fixture
def doctor(store: Store) -> DoctorService:
    return DoctorService(store, worlds.PLATFORM, lambda: {"resolver": Probe(ok=True)})


async def test_explanations_come_from_the_store(doctor: DoctorService) -> None:
    qname = Name.parse(f"api.{HERE}")
    with pytest.raises(Missing, match="there is no environment 'production'"):
        await doctor.explain(worlds.PRODUCTION, qname, "AAAA")
    await doctor.store.environments.commit(worlds.production(), 0)
    assert (await doctor.explain(worlds.PRODUCTION, qname, "aaaa"))["rcode"] == "NOERROR"
    with pytest.raises(Invalid, match="'NONSENSE' is not a record type"):
        await doctor.explain(worlds.PRODUCTION, qname, "NONSENSE")


async def test_an_explanation_is_never_all_well_where_a_client_would_time_out(doctor: DoctorService) -> None:
    """The instances of this world name hosts that nobody has registered."""
    await doctor.store.environments.commit(worlds.production(), 0)
    stages = (await doctor.explain(worlds.PRODUCTION, Name.parse(f"api.{HERE}"), "AAAA"))["stages"]
    failed = [stage for stage in stages if not stage["ok"]]
    assert [stage["stage"] for stage in failed] == ["host", "host"], stages
    assert "host h1, which is not registered" in failed[0]["detail"]
    assert failed[0]["fix"].startswith("interlock host enrol h1")


async def test_a_host_that_was_let_in_and_has_no_agent_yet_is_to_be_started(doctor: DoctorService) -> None:
    await doctor.store.environments.commit(worlds.production(), 0)
    until = await doctor.store.clock.milliseconds() + 60_000
    await doctor.store.credentials.invite("h1", Enrolment("0" * 64, until, None))
    stages = (await doctor.explain(worlds.PRODUCTION, Name.parse(f"a1.api.{HERE}"), "AAAA"))["stages"]
    # The cause stands first.
    assert (stages[0]["stage"], stages[0]["ok"]) == ("host", False), stages
    assert "h1 has a token to enrol with, and its agent has not registered it yet" in stages[0]["detail"]
    assert stages[0]["fix"].startswith("on h1: interlock agent --host h1 ")
    report = await doctor.diagnose(worlds.PRODUCTION, "a1.api", None, is_whole=True)
    assert "--enrol @FILE-WITH-THE-TOKEN" in report["cause"]["fix"], report


async def test_it_is_explained_for_a_client(doctor: DoctorService) -> None:
    environment = worlds.production()
    await doctor.store.environments.commit(environment, 0)
    address = str(environment.services["api"].instances["a1"].address)
    qname = Name.parse(f"api.{HERE}")
    for source in (address, "a1.api"):
        explained = await doctor.explain(worlds.PRODUCTION, qname, "AAAA", source, is_whole=True)
        (client,) = [stage for stage in explained["stages"] if stage["stage"] == "client"]
        assert client["ok"], client
        assert "instance a1.api of production, on host h1" in client["detail"]
    # The environment is found by the address; an address of none is refused, as the resolver refuses it.
    assert (await doctor.explain(None, qname, "AAAA", address))["environment"] == "production"
    refused = await doctor.explain(None, qname, "AAAA", "fd99::1")
    assert (refused["rcode"], [stage["ok"] for stage in refused["stages"]]) == ("REFUSED", [False])
    with pytest.raises(Invalid, match="no address"):
        await doctor.explain(None, qname, "AAAA", "a1.api")


async def test_a_tenant_hears_of_its_environment_alone(doctor: DoctorService) -> None:
    await doctor.store.environments.commit(worlds.production(), 0)
    whole = await doctor.diagnose(worlds.PRODUCTION, "api", None, is_whole=True)
    part = await doctor.diagnose(worlds.PRODUCTION, "api", None, is_whole=False)
    assert {"store", "clock"} <= {mark["check"] for mark in whole["marks"]}
    assert {mark["check"] for mark in part["marks"]}.isdisjoint({"store", "clock", "control plane"})
    near = EnvironmentId("productoin")
    assert "there is production" in (await doctor.diagnose(near, None, None, is_whole=True))["cause"]["detail"]
    assert "there is production" not in (await doctor.diagnose(near, None, None, is_whole=False))["cause"]["detail"]
