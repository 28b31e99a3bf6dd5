"""Traffic during a test: connections that stay open, queries for names, and deploys.

Whatever the test does to the mesh, `Traffic.check` demands three things: no connection is lost, no answer is wrong, and
the first connection after every deploy that succeeded is established.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import count
from typing import Self

from agent.control.client import Refusal
from tests.clients.builds import Build
from tests.mesh.deploying import Deploy, deployed
from tests.mesh.members import Member, PopulatedEnvironment, instance_name
from tests.mesh.mesh import Node, until
from tests.mesh.prober import Prober
from tests.mesh.talking import HeldConnection, Talker

SERVICE = "deployed"
"""The service of the deploys. The environment must have it."""

_serials = count()


class Traffic:
    """Traffic of ``environment`` for the length of a with-statement.

    Each of ``members`` keeps a connection to the next one. Deploys are made on the hosts of ``deployers`` in turn, and
    ``deployers`` connect to them; without ``deployers`` there are no deploys. The queries come from the first of
    ``members``. The tests may use the members' servers meanwhile.
    """

    def __init__(
        self,
        environment: PopulatedEnvironment,
        members: Sequence[Member],
        deployers: Sequence[Member] = (),
        build: Build | None = None,
    ) -> None:
        self.deploys: list[Deploy] = []
        self.refused: list[str] = []
        self.held: dict[str, HeldConnection] = {}
        self._environment, self._members, self._deployers, self._build = environment, members, deployers, build
        self._serial, self._number = next(_serials), 0
        self.prober = Prober(members[0].workload, self._names)
        self._is_over = threading.Event()
        self._deploying = threading.Thread(target=self._deploy_all)
        self._fault: BaseException | None = None

    def __enter__(self) -> Self:
        for one, other in self._ring():
            one.talkers["glibc"].hold(other.name)
        self.prober.__enter__()
        if self._deployers:
            self._deploying.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        if self._deployers:
            self._deploying.join()
        self.held = {f"{one.name} to {other.name}": one.talkers["glibc"].release() for one, other in self._ring()}
        self.prober.__exit__()

    def until_deployed(self, more: int) -> None:
        """Returns when ``more`` further deploys have been made."""
        wanted = len(self.deploys) + more
        until(lambda: len(self.deploys) >= wanted or self._fault, lambda: f"no deploys; refused: {self.refused}")
        assert self._fault is None, self._fault

    def until_refused(self) -> None:
        """Returns when one more deploy has been refused."""
        wanted = len(self.refused) + 1
        until(lambda: len(self.refused) >= wanted or self._fault, "nothing was refused")
        assert self._fault is None, self._fault

    def check(self, *, refusals: bool = False) -> None:
        """Fails unless all went well; to be called at the end. With ``refusals``, deploys may have been refused."""
        assert self._fault is None, self._fault
        assert {between: held for between, held in self.held.items() if held.broken or not held.count} == {}
        assert self.prober.wrong_answers(self._known()) == []
        assert [str(deploy) for deploy in self.deploys if not deploy.is_reached] == []
        assert refusals or self.refused == []

    @property
    def longest_gap(self) -> float:
        """The longest interruption of any of the connections, in milliseconds."""
        return max(held.longest_gap for held in self.held.values())

    def _ring(self) -> list[tuple[Member, Member]]:
        return list(zip(self._members, [*self._members[1:], self._members[0]], strict=True))

    def _names(self) -> list[str]:
        # Of the deploys: the one that was just removed, the one that is being made, and the next one.
        recent = range(max(0, self._number - 1), self._number + 2)
        members = [member.name for member in self._environment.members]
        return [*members, *(instance_name(SERVICE, self._id(number)) for number in recent)]

    def _id(self, number: int) -> str:
        return f"t{self._serial}-{number}"

    def _known(self) -> dict[str, set[str]]:
        """The addresses that each name ever had.

        A deploy that was refused halfway had an address that this test never learned. So an answer under its name
        counts as right if it is always the same address, and no other name's.
        """
        known = {member.name: {member.address} for member in self._environment.members}
        known |= {deploy.name: {deploy.workload.address} for deploy in self.deploys}
        taken = {address for addresses in known.values() for address in addresses}
        answered: dict[str, set[str]] = {}
        for answer in self.prober.answers:
            if answer.name not in known:
                answered.setdefault(answer.name, set()).update(answer.addresses - taken)
        return known | {name: addresses for name, addresses in answered.items() if len(addresses) == 1}

    def _deploy_all(self) -> None:
        try:
            for number in count():
                if self._is_over.is_set():
                    return
                self._number = number
                deployer = self._deployers[number % len(self._deployers)]
                client = self._deployers[(number + 1) % len(self._deployers)].talkers["musl"]
                self._deploy(deployer.node, self._id(number), client)
        except BaseException as error:  # noqa: BLE001 handed over to the thread that waits
            self._fault = error

    def _deploy(self, node: Node, id_: str, client: Talker) -> None:
        assert self._build
        try:
            with deployed(node, self._environment.id, SERVICE, id_, client, self._build) as deploy:
                self.deploys.append(deploy)
        except Refusal as error:
            self.refused.append(f"{error.kind}: {error}")
