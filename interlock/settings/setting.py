"""One setting: how its value is written, read and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from interlock.settings import values

Environ = Mapping[str, str]
"""Environment variables, by name."""
Raw = str | bool | float | Iterable[str]
"""A value before it is parsed: text, or what TOML has instead of it."""


def show(value: Any) -> str:
    """A value as it would be written in an environment variable; empty for None."""
    if isinstance(value, bool):
        return str(value).lower()
    if type(value) is tuple:  # several values; a named tuple is one
        return ",".join(show(one) for one in value)
    return "" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Setting:
    """One entry of the table: how a value is written, read, shown and explained."""

    metavar: str
    """What stands for the value in help texts: ``ADDRESS:PORT``."""
    parse: Callable[[str], Any]
    """Makes a value of its text. Raises ``ValueError`` with a message that says what would be right."""
    default: Raw | Callable[[Environ], str]
    """The default, as a text like any other value, or what computes it from the environment variables."""
    help: str
    """Explains the flag in ``--help``."""
    programs: tuple[str, ...] = ()
    """The programs, such as ``up``, that have it as a flag; empty for a setting of client commands alone."""
    program_defaults: Mapping[str, Raw] = field(default_factory=dict)
    """The defaults of those programs whose default differs, by program."""
    collect: Callable[[Iterable[Any]], tuple[Any, ...]] | None = None
    """Makes one value of several, for a setting that may be given more than once; None for one that may not."""
    choices: tuple[str, ...] = ()
    """All possible values, where they can be listed."""
    aliases: tuple[str, ...] = ()
    """Further environment variables that set it."""
    show: Callable[[Any], str] = show
    """Writes the value for ``interlock config``, which must not show secrets."""
    short: str = ""
    """The short form of its flag: ``-e``."""
    name: str = ""
    """Its name: that of its field in `Settings`."""

    @property
    def flag(self) -> str:
        """Its flag: ``--dns-listen``."""
        return "--" + self.key

    @property
    def key(self) -> str:
        """Its key in the settings file: ``dns-listen``."""
        return self.name.replace("_", "-")

    @property
    def variables(self) -> tuple[str, ...]:
        """Its environment variables, of which the first that is set counts."""
        return ("INTERLOCK_" + self.name.upper(), *self.aliases)

    @property
    def is_switch(self) -> bool:
        """Whether its flag takes no value: ``--demo`` or ``--no-demo``."""
        return self.parse is values.parse_switch

    @property
    def is_number(self) -> bool:
        """Whether its value is a number, or may be one, so that a settings file may have it without quotes."""
        return self.parse in values.NUMBERS

    def default_for(self, program: str, environ: Environ) -> Raw:
        """Its default in ``program``, as text."""
        if program in self.program_defaults:
            return self.program_defaults[program]
        return self.default(environ) if callable(self.default) else self.default
