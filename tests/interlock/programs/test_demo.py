"""The demo: which clients it answers."""

from __future__ import annotations

from interlock.programs.demo import demo_bindings
from interlock.settings.values import parse_binding


def test_this_machine_belongs_to_the_demo_unless_it_is_bound_otherwise() -> None:
    configured = (parse_binding("127.0.0.1=mine"), parse_binding("10.0.0.0/8=other"))
    assert [str(binding) for binding in demo_bindings(configured)] == [
        "127.0.0.1/32=mine", "10.0.0.0/8=other", "::1/128=demo",
    ]  # fmt: skip
