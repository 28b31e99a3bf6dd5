"""The Lua scripts that the server runs: each makes one change whole, or refuses it and changes nothing."""

from __future__ import annotations

from importlib.resources import files


def read_script(name: str, *, shared: tuple[str, ...] = ()) -> str:
    """The text of ``name``.lua, behind that of the ``shared`` files whose functions it calls."""
    folder = files("store.scripts")
    return "".join(folder.joinpath(f"{part}.lua").read_text() for part in (*shared, name))
