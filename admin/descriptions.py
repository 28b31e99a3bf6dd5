"""The sentences that stand below the fields of a type, as descriptions of its properties in the API's description.

So a field is explained in one place. A field whose type has a description of its own keeps that.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from msgspec import Struct
from msgspec.structs import StructConfig

TAG = "the edit that is to be made"


def describe_properties(type_: type[Struct], schema: dict[str, Any]) -> None:
    """Gives each property in ``schema``, which is that of ``type_``, its description."""
    sentences = field_sentences(type_)
    config: StructConfig = type_.__struct_config__
    if config.tag_field:
        sentences[config.tag_field] = TAG
    for name, property_ in schema.get("properties", {}).items():
        if "description" not in property_ and name in sentences:
            property_["description"] = sentences[name]


def field_sentences(type_: type) -> dict[str, str]:
    """The sentence below each field of ``type_`` in its source, also of those that it inherits."""
    found: dict[str, str] = {}
    for base in reversed(type_.__mro__):
        if base.__module__ not in ("builtins", "msgspec._core", "typing"):
            found |= _sentences_in(base.__module__, inspect.getsourcefile(base)).get(base.__qualname__, {})
    return found


def structs_in(types: Iterable[Any]) -> list[type[Struct]]:
    """The struct types among ``types``, and those that their fields hold, at any depth."""
    found: dict[type[Struct], None] = {}
    waiting = list(types)
    while waiting:
        type_ = waiting.pop()
        if isinstance(type_, type) and issubclass(type_, Struct):
            if type_ in found:
                continue
            found[type_] = None
            waiting += get_type_hints(type_, include_extras=True).values()
        else:
            waiting += get_args(type_)
    return list(found)


@cache
def _sentences_in(_module: str, path: str | None) -> dict[str, dict[str, str]]:
    """The sentences below the fields of each class in the module at ``path``, by class and field."""
    tree = ast.parse(Path(path).read_text()) if path else ast.Module([], [])
    return {node.name: _sentences(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _sentences(node: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split()).replace("``", "'")
    return found
