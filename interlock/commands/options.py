"""Flags: the settings that a command takes, as options made from the table of settings."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from interlock.settings.setting import Setting
from interlock.settings.sources import read_settings
from interlock.settings.table import TABLE

Command = TypeVar("Command", bound=Callable[..., Any])

PLATFORM = ("platform_prefix", "zone")
STORE = ("redis", "redis_prefix")
LOGS = ("log_level", "log_format")
API = ("api", "token", "state_dir")


def takes(*names: str, part: str = "") -> Callable[[Command], Callable[..., Any]]:
    """Gives a command the flags of the settings ``names``, and all settings as its argument ``settings``.

    ``part`` chooses among defaults that differ by command.
    """

    def decorate(command: Command) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_settings(*args: Any, config: str | None, **kwargs: Any) -> Any:
            given = {name: kwargs.pop(name) for name in names}
            flags = {name: value for name, value in given.items() if value not in (None, ())}
            settings = read_settings(flags, os.environ, part=part or kwargs.get("part", ""), config=config)
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
    text = f"{setting.help} Also {setting.variables[0]}."
    if setting.is_switch:
        return click.option(f"{setting.flag}/--no-{setting.key}", setting.name, default=None, help=text)
    return click.option(
        *filter(None, (setting.short, setting.flag)),
        setting.name,
        metavar="|".join(setting.words) or setting.metavar,
        multiple=setting.collect is not None,
        shell_complete=lambda _context, _parameter, begun: _complete(setting, begun),
        help=text,
    )


def _complete(setting: Setting, begun: str) -> list[CompletionItem]:
    if setting.metavar in ("PATH", "DIRECTORY"):
        return [CompletionItem(begun, type="dir" if setting.metavar == "DIRECTORY" else "file")]
    return [CompletionItem(word) for word in setting.words if word.startswith(begun)]
