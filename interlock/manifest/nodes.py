"""YAML as a tree in which every value knows its line. The adapter of PyYAML.

Texts are texts, whatever YAML would make of them: a service may be called ``on`` and a TXT record may say ``1.10``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from interlock.errors import BadManifest

MOST_NODES = 1_000_000  # values in a document; aliases of aliases make more of a few lines
DEEPEST = 50  # levels; ours has eight

TRUE, FALSE = ("true", "yes", "on"), ("false", "no", "off")


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a document."""

    value: dict[str, Node] | list[Node] | str | None
    """What it is; None where nothing is written."""
    line: int
    """The line on which it begins, from 1."""
    file: str
    """The name of the document, for messages."""
    is_plain: bool = True
    """Of a text: whether it has no quotes, so that ``true`` may mean yes."""

    def error(self, message: str) -> BadManifest:
        """An error about this value, which names its line."""
        return BadManifest(f"{self.file}, line {self.line}: {message}")

    def mapping(self, what: str, *keys: str) -> dict[str, Node]:
        """Its entries, where it is a mapping; with ``keys``, those that it may have."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.error(f"{what} is a mapping: write 'key: value' lines below it")
        for key, node in self.value.items():
            if keys and key not in keys:
                raise node.error(f"{what} has no {key!r}: it may have {', '.join(keys)}")
        return self.value

    def sequence(self, what: str) -> list[Node]:
        """Its entries, where it is a list; a single text is a list of one."""
        match self.value:
            case list():
                return self.value
            case str():
                return [self]
            case None:
                return []
        raise self.error(f"{what} is a list: write '- value' lines below it, or [value, value]")

    def text(self, what: str) -> str:
        """Its text."""
        if not isinstance(self.value, str):
            raise self.error(f"{what} is a text")
        return self.value

    def switch(self, what: str) -> bool:
        """Whether it says yes."""
        said = self.value.lower() if isinstance(self.value, str) and self.is_plain else ""
        if said not in TRUE + FALSE:
            raise self.error(f"{what} is true or false")
        return said in TRUE

    def number(self, what: str) -> int:
        """Its number."""
        if not (isinstance(self.value, str) and self.value.isascii() and self.value.isdigit() and len(self.value) < 12):
            raise self.error(f"{what} is a whole number")
        return int(self.value)


def read(text: str, file: str) -> Iterator[Node]:
    """The documents in ``text``, which are separated by ``---``. Raises `BadManifest`."""
    try:
        for document in yaml.compose_all(text, Loader=yaml.SafeLoader):
            yield _Reader(file).node(document, 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise BadManifest(f"{file}{where}: this is no YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise BadManifest(f"{file}: this is no YAML: {' '.join(str(error).split())}") from None


def write(value: Any) -> str:
    """``value`` as YAML, in the order that it has."""
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return text


class _Reader:
    """Makes nodes of PyYAML's, and counts them."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._count = 0

    def node(self, node: yaml.Node | None, depth: int) -> Node:
        if node is None:
            return Node(None, 1, self._file)
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > MOST_NODES or depth > DEEPEST:
            raise Node(None, line, self._file).error("too much is nested here: aliases (&, *) repeat too often")
        match node:
            case yaml.MappingNode():
                return Node(self._mapping(node, depth), line, self._file)
            case yaml.SequenceNode():
                return Node([self.node(one, depth + 1) for one in node.value], line, self._file)
        assert isinstance(node, yaml.ScalarNode)
        is_empty = node.tag.endswith(":null")
        return Node(None if is_empty else str(node.value), line, self._file, is_plain=node.style is None)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key, value in node.value:
            at = Node(None, key.start_mark.line + 1, self._file)
            if not isinstance(key, yaml.ScalarNode):
                raise at.error("a key is a text")
            if key.value in found:
                raise at.error(f"{key.value!r} stands here twice: keep one of them")
            below = self.node(value, depth + 1)
            # A value that is below its key is named by the line of the key.
            found[key.value] = Node(below.value, at.line, self._file, below.is_plain)
        return found
