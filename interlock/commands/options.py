"""Flags: the options of a command, made from the table of settings."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from interlock.commands.names import environments
from interlock.settings.setting import Setting
from interlock.settings.sources import read_settings
from interlock.settings.table import TABLE, settings_of

Command = TypeVar("Command", bound=Callable[..., Any])

API = ("api", "token", "state_dir")
"""The settings of a command that calls the admin API."""


def serves(program: str) -> Callable[[Command], Callable[..., Any]]:
    """Gives a command that serves the flags of ``program``, and all settings as its argument ``settings``."""
    return takes(*settings_of(program), program=program)


def takes(*names: str, program: str = "") -> Callable[[Command], Callable[..., Any]]:
    """Gives a command the flags of the settings ``names``, and all settings as its argument ``settings``.

    ``program`` chooses among defaults that differ; without one, the command's own argument ``program`` does.
    """

    def decorate(command: Command) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_settings(*args: Any, config: str | None, **kwargs: Any) -> Any:
            given = {name: kwargs.pop(name) for name in names}
            flags = {name: value for name, value in given.items() if value not in (None, ())}
            settings = read_settings(flags, os.environ, program=program or kwargs.get("program", ""), config=config)
            return command(*args, settings=settings, **kwargs)

        wrapped: Callable[..., Any] = click.option(
            "--config",
            metavar="FILE",
            shell_complete=lambda _context, _parameter, begun: [CompletionItem(begun, type="file")],
            help="Settings file (TOML). Also INTERLOCK_CONFIG.",
        )(with_settings)
        for name in reversed(names):
            wrapped = _option(TABLE[name])(wrapped)
        return wrapped

    return decorate


def _option(setting: Setting) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    text = f"{setting.help} Also {' or '.join(setting.variables)}."
    if setting.is_switch:
        return click.option(f"{setting.flag}/--no-{setting.key}", setting.name, default=None, help=text)
    return click.option(
        *filter(None, (setting.short, setting.flag)),
        setting.name,
        metavar="|".join(setting.choices) or setting.metavar,
        multiple=setting.collect is not None,
        shell_complete=environments
        if setting.name == "environment"
        else lambda _context, _parameter, begun: _complete(setting, begun),
        help=text,
    )


def _complete(setting: Setting, begun: str) -> list[CompletionItem]:
    if setting.metavar in ("PATH", "DIRECTORY"):
        return [CompletionItem(begun, type="dir" if setting.metavar == "DIRECTORY" else "file")]
    return [CompletionItem(word) for word in setting.choices if word.startswith(begun)]
