"""Two workloads whose links would have one name, and a namespace that pretends to be the other end of a link.

The names are cut from hashes. These two keys have the same first 44 bits; they were found in a minute.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.errors import Refused
from agent.plan.link_filter import workload_filter
from agent.plan.plan import LocalWorkload, plan
from agent.system.interior import interior
from agent.system.namespaces import opened
from agent.system.netlink import Links
from agent.system.veth import Veth, create_veth, find_workload_end, link_names, mac_addresses, may_use
from tests import namespaces
from tests.agent.inside import PREFIX, run
from tests.agent.worlds import PLATFORM, address, environment, host
from tests.mesh.mesh import Mesh, until
from tests.namespaces import Namespace

RED, BLUE = "red.api.a1752970", "blue.api.a1656746"
MTU = 1420


def test_the_two_have_one_name_and_further_ones_of_their_own() -> None:
    red, blue = link_names(RED), link_names(BLUE)
    assert next(red) == next(blue)
    assert next(red) != next(blue)


def test_each_is_attached_by_a_link_of_its_own(mesh: Mesh) -> None:
    """Also after the agent has been started again, each has its own address and its own link."""
    h1 = mesh.nodes["h1"]
    for id_ in ("red", "blue"):
        if id_ not in {one["id"] for one in mesh.client.get("environments")["environments"]}:
            mesh.environment(id_, "api")
    red = h1.attach("red", "api", "a1752970")
    blue = h1.attach("blue", "api", "a1656746")
    links = {one.attach_answer["host_interface"] for one in (red, blue)}
    assert len(links) == 2
    h1.agent.kill()
    h1.agent.start()
    h1.until_ready()
    for workload, id_, instance in ((red, "red", "a1752970"), (blue, "blue", "a1656746")):
        until(lambda: h1.ask("status")["ready"], "the agent is not ready")
        shown = workload.run(["ip", "-6", "-oneline", "address", "show", "dev", "railnet0", "scope", "global"]).stdout
        assert [line.split()[3] for line in shown.splitlines()] == [f"{workload.address}/128"]
        checked = h1.ask("check", environment=id_, service="api", instance=instance, netns=workload.path)
        assert checked["host_interface"] == workload.attach_answer["host_interface"]
        h1.detach(id_, "api", instance)
        workload.remove()


@pytest.fixture
def workloads(space: Namespace) -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces for workloads of ``space``."""
    made = namespaces.make(PREFIX, "red"), namespaces.make(PREFIX, "blue")
    yield made
    for one in made:
        one.remove()


def veth(key: str, number: int, workload: Namespace) -> Veth:
    mac, interface_mac = mac_addresses(key)
    return Veth(next(link_names(key)), mac, "railnet0", interface_mac, address(number, 1), str(workload.path), key)


async def make(links: Links, wanted: Veth) -> None:
    with opened(wanted.netns) as namespace:
        filter_ = workload_filter(wanted.address, PLATFORM)
        async with interior(namespace) as inside:
            await create_veth(links, wanted, inside, PLATFORM.prefix, MTU, filter_)


def test_a_link_of_another_workload_is_not_taken(space: Namespace, workloads: tuple[Namespace, Namespace]) -> None:
    async def main() -> None:
        links = Links()
        try:
            await make(links, veth(RED, 1, workloads[0]))
            assert not may_use(links, next(link_names(BLUE)), BLUE)
            with pytest.raises(Refused, match=f"belongs to {RED}"):
                await make(links, veth(BLUE, 2, workloads[1]))
            assert links.owner(next(link_names(RED))) == RED
        finally:
            links.close()

    run(space, main())


def test_the_other_end_of_a_link_is_where_the_kernel_says(
    space: Namespace, workloads: tuple[Namespace, Namespace]
) -> None:
    """Whatever a workload gives its own links: names, MAC addresses, and the indices of both ends."""
    real, fake = workloads

    async def main() -> None:
        links = Links()
        try:
            wanted = veth(RED, 1, real)
            await make(links, wanted)
            index = links.index(wanted.link) or 0
            peer = links.peer_index(wanted.link)
            ends = f"link add twin index {index + 1000} type veth peer name railnet0 index {peer}"
            fake.ip([ends, f"link set railnet0 address {wanted.interface_mac}"])
            assert find_workload_end(links, wanted.link) == (str(real.path), "railnet0")
            real.remove()
            assert find_workload_end(links, wanted.link) is None
        finally:
            links.close()

    run(space, main())


def test_while_a_namespace_goes_no_other_is_taken_for_it(
    space: Namespace, workloads: tuple[Namespace, Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel then says of its link that the other end is in namespace -1, as it says of each one without a link."""
    real, fake = workloads

    def none(_: Links, _link: str) -> int:
        return -1

    async def main() -> None:
        links = Links()
        try:
            wanted = veth(RED, 1, real)
            await make(links, wanted)
            fake.ip([f"link add twin index 2000 type veth peer name railnet0 index {links.peer_index(wanted.link)}"])
            monkeypatch.setattr(Links, "peer_namespace", none)
            assert find_workload_end(links, wanted.link) is None
        finally:
            links.close()

    run(space, main())


def test_a_plan_with_two_of_one_name_rejects_and_names_both() -> None:
    def local(number: int, key: str) -> LocalWorkload:
        return LocalWorkload("rail1", "02:00:00:00:00:01", environment(number, [1]).id, address(number, 1), key)

    environments = {one.id: one for one in (environment(1, [1]), environment(2, [1]))}
    red, blue = "e1.api.a1", "e2.api.a1"
    both = [local(1, red), local(2, blue)]
    made = plan(environments, {"h1": host(1)}, host(1), PLATFORM, both)
    assert made.wanted.workloads == {}
    assert [str(one) for one in made.rejected] == [
        f"workload {red}: its link rail1 is that of {blue}",
        f"workload {blue}: its link rail1 is that of {red}",
    ]
    # Where the link tells whom it was made for, that one keeps it.
    made = plan(environments, {"h1": host(1)}, host(1), PLATFORM, both, owners={"rail1": blue})
    assert made.wanted.workloads == {"rail1": address(2, 1)}
    assert [one.what for one in made.rejected] == [f"workload {red}"]
