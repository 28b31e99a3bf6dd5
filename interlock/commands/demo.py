"""``interlock demo``: what there is to see on one machine, with nothing set up."""

from __future__ import annotations

import click


@click.group()
def demo() -> None:
    """What there is to see on one machine: mesh. For an environment with names alone, 'interlock up --demo'."""


@demo.command()
@click.option("--once", is_flag=True, help="End when all was shown; by default it stays, to look around, until Ctrl-C.")
@click.option("--inside", is_flag=True, hidden=True)
def mesh(*, once: bool, inside: bool) -> int:
    """Three hosts and two environments on this machine: a connection by name, and what is kept apart.

    All of it is in namespaces of its own, and ends with this command. Root can run it, and any user who may make user
    namespaces.
    """
    from interlock.programs.demo_mesh import run_demo_mesh, run_inside

    if inside:
        run_inside(once=once)
        return 0
    return run_demo_mesh(once=once)
