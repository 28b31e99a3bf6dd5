"""One setting: how its value is written, read and shown, whatever it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from interlock.settings import values

Environ = Mapping[str, str]
Raw = str | bool | Iterable[str]


def show(value: Any) -> str:
    """A value as it would be written in a variable; nothing for None."""
    if isinstance(value, bool):
        return str(value).lower()
    if type(value) is tuple:  # several values; a named tuple is one
        return ",".join(show(one) for one in value)
    return "" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: how a value is written, read, shown and explained.

    ``collect`` makes one value of several and marks a setting that may be repeated. ``part_defaults`` holds the
    defaults of commands that differ. ``words`` are all values there are, where they can be listed. ``short`` is a
    short form of the flag.
    """

    metavar: str
    parse: Callable[[str], Any]
    default: Raw | Callable[[Environ], str]
    help: str
    part_defaults: Mapping[str, Raw] = field(default_factory=dict)
    collect: Callable[[Iterable[Any]], tuple[Any, ...]] | None = None
    words: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    show: Callable[[Any], str] = show
    short: str = ""
    name: str = ""

    @property
    def flag(self) -> str:
        return "--" + self.key

    @property
    def key(self) -> str:
        """How the settings file calls it."""
        return self.name.replace("_", "-")

    @property
    def variables(self) -> tuple[str, ...]:
        """Its environment variables; the first that is set counts."""
        return ("INTERLOCK_" + self.name.upper(), *self.aliases)

    @property
    def is_switch(self) -> bool:
        return self.parse is values.parse_switch

    def default_for(self, part: str, environ: Environ) -> Raw:
        if part in self.part_defaults:
            return self.part_defaults[part]
        return self.default(environ) if callable(self.default) else self.default
