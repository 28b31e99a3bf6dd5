"""Cycles of imports among the product's modules, those under ``TYPE_CHECKING`` and inside functions included.

python -m tests.circles     prints each cycle, and exits with 1 if there is one
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("admin", "agent", "interlock", "resolver", "store", "support", "watcher", "zones")


def sources(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """The source of each module of ``packages``, by its dotted name."""
    return {_name(path): path.read_text() for package in packages for path in sorted((ROOT / package).rglob("*.py"))}


def graph(modules: Mapping[str, str]) -> dict[str, set[str]]:
    """The modules of ``modules`` that each imports, by dotted name.

    An import of a name from a package counts for the module that has the name, and for the package itself only where
    the name is not a module: ``from agent import keys`` is an import of ``agent.keys``.
    """
    return {name: set(_imported(name, source, modules)) for name, source in modules.items()}


def cycles(imports: Mapping[str, set[str]]) -> list[list[str]]:
    """One cycle of each knot of modules that import each other, as the list of modules from the first back to it."""
    remaining, found = {name: set(others) for name, others in imports.items()}, []
    while True:
        try:
            TopologicalSorter(remaining).prepare()
        except CycleError as error:
            cycle = list(reversed(error.args[1]))
            found.append(cycle)
            remaining[cycle[0]].discard(cycle[1])
        else:
            return found


def _imported(name: str, source: str, modules: Mapping[str, str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                target = f"{node.module}.{alias.name}"
                if target in modules:
                    yield target
                elif node.module in modules and node.module != name:
                    yield node.module


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


if __name__ == "__main__":
    found = cycles(graph(sources()))
    for cycle in found:
        print(" → ".join(cycle))
    print(f"{len(found)} cycles of imports in {len(sources())} modules", file=sys.stderr)
    sys.exit(1 if found else 0)
