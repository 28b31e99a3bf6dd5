"""Where the values of settings come from.

    built-in default  <  settings file (TOML)  <  INTERLOCK_* variable  <  flag

In the settings file, a table of a program's name (``[agent]``) counts for that program alone, and more than what stands
above the tables: so that the programs of one host can share a file.

Every value that is set is checked, also those that the command at hand does not need, so that a mistake shows at once.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from interlock.errors import BadSetting
from interlock.settings.setting import Environ, Raw, Setting
from interlock.settings.table import DEFAULT, PROGRAMS, TABLE, Settings

CONFIG_VARIABLE = "INTERLOCK_CONFIG"

# Kubernetes sets such variables in every container for every Service of its namespace, and one may be called interlock.
_SERVICE_LINK = re.compile(r"INTERLOCK(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")


def read_settings(
    flags: Mapping[str, Raw], environ: Environ, *, program: str = "", config: str | None = None
) -> Settings:
    """The settings of the command ``program``. Raises `BadSetting`.

    ``program`` chooses among defaults that differ. ``flags`` holds the flags that were given, by the name of their
    setting. ``config`` is the path of the settings file; None for the one that `CONFIG_VARIABLE` names, or none.
    """
    _check_variables(environ)
    config = config or environ.get(CONFIG_VARIABLE) or None
    file = _of_program(_read_file(Path(config)), program) if config else {}
    found: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, setting in TABLE.items():
        origin, raw = _find(setting, flags, environ, file, f"file {config}", program)
        found[name] = _parse(setting, origin, raw)
        origins[name] = origin
    return Settings(**found, origins=origins)


def _find(
    setting: Setting,
    flags: Mapping[str, Raw],
    environ: Environ,
    file: Mapping[str, Raw],
    file_origin: str,
    program: str,
) -> tuple[str, Raw]:
    if setting.name in flags:
        return f"flag {setting.flag}", flags[setting.name]
    for variable in setting.variables:
        if variable in environ:
            return f"variable {variable}", environ[variable]
    if setting.key in file:
        return file_origin, file[setting.key]
    return DEFAULT, setting.default_for(program, environ)


def _parse(setting: Setting, origin: str, raw: Raw) -> Any:
    try:
        if setting.collect:
            return setting.collect([setting.parse(text) for text in _several(raw)])
        return setting.parse(_single(raw, setting.is_number))
    except ValueError as error:
        where = f"{origin}, key {setting.key}" if origin.startswith("file ") else origin
        raise BadSetting(f"{where}: {error}") from None


def _several(raw: Raw) -> list[str]:
    texts = [raw] if isinstance(raw, str) else raw
    if not (isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts)):
        raise ValueError(f"{raw!r} is not a list of texts: write it as in ['one', 'two']")
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _single(raw: Raw, may_be_number: bool) -> str:
    if isinstance(raw, bool):
        return str(raw).lower()
    if may_be_number and isinstance(raw, int | float):
        return str(raw)
    if not isinstance(raw, str):
        raise ValueError(f"{raw!r} is not a text: write it in quotes")
    return raw


def _of_program(file: Mapping[str, Any], program: str) -> Mapping[str, Raw]:
    """What ``file`` sets for ``program``."""
    shared = {key: value for key, value in file.items() if key not in PROGRAMS}
    return {**shared, **file.get(program, {})}


def _read_file(path: Path) -> Mapping[str, Any]:
    """The settings in the file at ``path``, those of one program in a table of its own. Raises `BadSetting`."""
    try:
        file = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadSetting(f"settings file {path}: {error.strerror}") from None
    except ValueError as error:  # not UTF-8, or not TOML
        raise BadSetting(f"settings file {path}: {error}") from None
    keys = [setting.key for setting in TABLE.values()]
    tables = {program: file[program] for program in PROGRAMS if isinstance(file.get(program), dict)}
    shared = {key: value for key, value in file.items() if key not in tables}
    for where, table in (("", shared), *((f" in [{program}]", table) for program, table in tables.items())):
        for key in table:
            if key not in keys:
                raise BadSetting(f"settings file {path}: there is no setting {key!r}{where}{_suggest(key, keys)}")
    return file


def _check_variables(environ: Environ) -> None:
    known = [CONFIG_VARIABLE, *(variable for setting in TABLE.values() for variable in setting.variables)]
    for variable in environ:
        if variable.startswith("INTERLOCK_") and variable not in known and not _SERVICE_LINK.fullmatch(variable):
            raise BadSetting(f"variable {variable}: there is no such setting{_suggest(variable, known)}")


def _suggest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {near[0]}?" if near else "; 'interlock config' lists all"
