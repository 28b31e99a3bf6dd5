"""The command line: all commands. An error becomes one line on standard error and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import click

from interlock.commands.about import completion, config, help_, version
from interlock.commands.ask import explain, query
from interlock.commands.attach import attach, detach, mesh
from interlock.commands.backups import backup, restore
from interlock.commands.console import console
from interlock.commands.demo import demo
from interlock.commands.doctor import doctor
from interlock.commands.environments import env
from interlock.commands.groups import Root
from interlock.commands.guard import guard
from interlock.commands.hosts import host
from interlock.commands.instances import instance
from interlock.commands.manifests import apply, export
from interlock.commands.output import paint
from interlock.commands.peers import peer
from interlock.commands.records import record
from interlock.commands.serve import admin, agent, resolver, up
from interlock.commands.services import service
from interlock.commands.snapshot import snapshot
from interlock.commands.store import store
from interlock.commands.tail import tail
from interlock.commands.tokens import token
from interlock.errors import EX_CONFIG, InterlockError

INTERRUPTED = 130  # what a shell reports for a command that SIGINT ended


SECTIONS: Mapping[str, Sequence[click.Command]] = {
    "Run": (up, resolver, admin, agent, demo),
    "What runs where": (env, service, instance, record, peer, host, token),
    "All of it at once": (apply, export),
    "This host": (attach, detach, mesh),
    "What is answered, and why": (console, doctor, query, explain, tail, snapshot),
    "Look after it": (backup, restore, guard, store),
    "This command": (config, version, completion, help_),
}


@click.group(
    cls=Root,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(package_name="interlock", message="%(prog)s %(version)s", prog_name="interlock")
def interlock() -> None:
    """Private networking for the environments of a platform: names that resolve only where they belong."""


def main() -> None:
    """Runs the command that the arguments name, and exits."""
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """Runs the command that ``arguments`` name, by default those of the process; gives its exit status."""
    try:
        return interlock.main(arguments, prog_name="interlock", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "interlock"
        message = error.format_message()
        return _fail(f"{message}{'' if message.endswith(('.', '?')) else '.'} See '{where} --help'.", EX_CONFIG)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except InterlockError as error:
        return _fail(str(error), error.exit_status)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED


def _fail(message: str, status: int) -> int:
    click.echo(paint("interlock:", err=True, fg="red") + " " + " ".join(message.split()), err=True)
    return status
