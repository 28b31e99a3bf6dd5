"""What waits for acknowledgements has asked the store, as seen from the store's side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from store.store import Store
from tests.waiting import until


@dataclass
class Asked:
    """The answers that whoever waits at ``store`` was given: the hosts that lagged."""

    answers: list[frozenset[str]] = field(default_factory=list)

    @classmethod
    def of(cls, store: Store, monkeypatch: pytest.MonkeyPatch) -> Asked:
        asked, original = cls(), store.acks.lagging

        async def lagging(id_: str, revision: int, hosts: Iterable[str]) -> frozenset[str]:
            answer = await original(id_, revision, hosts)
            asked.answers.append(answer)
            return answer

        monkeypatch.setattr(store.acks, "lagging", lagging)
        return asked

    async def again(self, *lagging: str) -> None:
        """Returns when somebody has asked again after it was told that exactly ``lagging`` lag."""
        await until(lambda: frozenset(lagging) in self.answers[:-1], f"{lagging} in {self.answers}")
