"""A second attach of an instance that lives, from another namespace: refused, unless it is asked to take its place."""

from __future__ import annotations

import pytest

from agent.control.client import Refusal
from tests.mesh.mesh import Mesh
from tests.security.places import Members


def test_it_is_refused_and_the_first_is_named_and_works_on(mesh: Mesh, red: Members) -> None:
    h1, first = mesh.nodes["h1"], red.on["h1"]
    second = h1.workload()
    with pytest.raises(Refusal, match=f"attached already, from {first.path}") as refused:
        h1.attach("red", "api", "a-h1", second)
    assert refused.value.kind == "refused"
    assert "--replace" in str(refused.value)
    shown = first.run(["ip", "-6", "-oneline", "address", "show", "dev", "railnet0", "scope", "global"]).stdout
    assert first.address in shown
    assert "railnet0" not in second.run(["ip", "-oneline", "link", "show"]).stdout
    h1.ask("check", environment="red", service="api", instance="a-h1", netns=first.path)
    second.remove()


def test_it_takes_the_place_of_the_first_where_that_is_asked_for(mesh: Mesh, red: Members) -> None:
    h1 = mesh.nodes["h1"]
    first, second = h1.workload(), h1.workload()
    before = first.resolv_conf.read_text()
    h1.attach("red", "api", "moving", first)
    assert first.resolv_conf.read_text() != before
    done = h1.interlock(
        "attach", "--environment", "red", "--service", "api", "--instance", "moving",
        "--netns", second.path, "--resolv-conf", str(second.resolv_conf), "--replace",
    )  # fmt: skip
    assert first.address in done.stdout  # the instance keeps its address
    assert first.address in second.run(["ip", "-6", "address", "show", "dev", "railnet0"]).stdout
    assert "railnet0" not in first.run(["ip", "-oneline", "link", "show"]).stdout
    assert first.resolv_conf.read_text() == before, "the first one asks a resolver that it does not reach any more"
    assert second.resolv_conf.read_text() != before
    h1.detach("red", "api", "moving")
    for one in (first, second):
        one.remove()


def test_an_instance_whose_namespace_is_gone_is_attached_anew_without_being_asked(mesh: Mesh, red: Members) -> None:
    h1 = mesh.nodes["h1"]
    first, second = h1.workload(), h1.workload()
    h1.attach("red", "api", "restarted", first)
    address = first.address
    first.remove()
    assert h1.attach("red", "api", "restarted", second).address == address
    h1.detach("red", "api", "restarted")
    second.remove()
