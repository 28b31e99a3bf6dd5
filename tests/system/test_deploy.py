"""The files of deploy/, the Dockerfile, the Makefile and the documentation, compared with what the product accepts."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from interlock.cli import interlock
from interlock.settings.sources import read_settings
from interlock.settings.table import AGENT, PROGRAMS, RESOLVER, TABLE

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy").glob("*.service"), key=lambda path: path.name)
PAGES = [
    path
    for path in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
]
TRANSCRIPT = ROOT / "docs" / "command-line.md"  # has mistakes too, and a test of its own that types all of it
# Of 100, as systemd rates what a unit could still do; without a sandbox it is 96. The agent must change its host's
# network and the namespaces of workloads, which makes half of that.
EXPOSURE, EXPOSURE_OF_AGENT = 20, 45
# Each machine has its own package index, so no file names one. In pieces, so that this file does not either.
REGISTRIES = ["pypi" + ".org", "python" + "hosted.org", "proxy.golang" + ".org", "npmjs" + ".org", "crates" + ".io"]
INDEX_OPTION = re.compile(r"--(?:extra-)?index-url|--trusted-host|--find-links")

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="not installed: systemd-analyze (systemd)"
)


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_understands_the_unit(unit: Path, tmp_path: Path) -> None:
    result = _analyze("verify", "--man=no", str(_runnable(unit, tmp_path)))
    assert result.returncode == 0, result.stderr
    assert unit.name not in result.stderr


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_unit_is_sandboxed(unit: Path, tmp_path: Path) -> None:
    exposure = EXPOSURE_OF_AGENT if unit.stem == "interlock-agent" else EXPOSURE
    result = _analyze("security", "--offline=true", f"--threshold={exposure}", str(_runnable(unit, tmp_path)))
    assert result.returncode == 0, result.stdout


@needs_systemd
def test_a_wrong_unit_fails_both(tmp_path: Path) -> None:
    """The negative control of the two tests above."""
    wrong = tmp_path / "wrong.service"
    wrong.write_text("[Service]\nType=notify\nExecStart=/bin/true\nProtectSytem=strict\n")
    assert wrong.name in _analyze("verify", "--man=no", str(wrong)).stderr
    assert _analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(wrong)).returncode != 0


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_what_the_unit_sets_is_a_setting(unit: Path) -> None:
    text = unit.read_text()
    environment = _environment(text)
    program = re.search(r"^ExecStart=/opt/interlock/bin/interlock (\w+)$", text, re.MULTILINE)
    assert program
    assert program[1] in interlock.commands
    read_settings({}, environment, program=program[1])


def test_on_a_host_of_the_mesh_the_resolver_learns_from_the_agent_alone() -> None:
    unit, more = ROOT / "deploy/interlock-resolver.service", ROOT / "deploy/interlock-resolver.service.d/agent.conf"
    environment = _environment(unit.read_text()) | _environment(more.read_text())
    settings = read_settings({}, environment, program="resolver")
    agents = read_settings({}, _environment((ROOT / "deploy/interlock-agent.service").read_text()), program="agent")
    assert settings.agent_dir == agents.agent_dir
    assert agents.agent_group
    assert f"SupplementaryGroups={agents.agent_group}\n" in more.read_text()
    # The store's variables, all of them, are taken out of what both units read.
    (unset,) = re.findall(r"^UnsetEnvironment=(.*)$", more.read_text(), re.MULTILINE)
    assert set(unset.split()) == set(TABLE["redis"].variables)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_examples_of_settings_are_taken(program: str) -> None:
    lines = (ROOT / "deploy/environment.example").read_text().splitlines()
    # Also what stands there as a comment.
    found = (re.match(r"(?:# )?(INTERLOCK_\w+)=(.*)", line) for line in lines)
    environment = {match[1]: match[2] for match in found if match}
    environment["INTERLOCK_CONFIG"] = str(ROOT / "deploy/interlock.toml")
    settings = read_settings({}, environment, program=program)
    assert settings.redis
    assert settings.hosts_listen
    assert [binding.environment for binding in settings.bind] == ["production", "production"]


def test_the_programs_of_a_host_listen_on_different_ports_which_monitoring_reaches() -> None:
    environment = {"INTERLOCK_CONFIG": str(ROOT / "deploy/interlock.toml")}
    settings = {program: read_settings({}, environment, program=program) for program in (RESOLVER, AGENT)}
    found = {program: str(one.ops_listen) for program, one in settings.items()}
    assert found == {RESOLVER: "0.0.0.0:8082", AGENT: "0.0.0.0:8083"}


def test_the_image_sets_what_are_settings() -> None:
    text = (ROOT / "Dockerfile").read_text()
    found = dict(re.findall(r"^(?:ENV)?\s+(INTERLOCK_\w+)=(\S+)", text, re.MULTILINE))
    settings = read_settings({}, found, program="up")
    assert {endpoint.port for endpoint in settings.dns_listen} == {53}


def test_compose_follows_its_schema() -> None:
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    result = subprocess.run([*checker, ROOT / "deploy/compose.yaml"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("service", ["resolver", "admin", "store"])
def test_compose_gives_no_service_more_than_it_needs(service: str) -> None:
    wanted = _compose()["services"][service]
    assert wanted["read_only"] is True
    assert wanted["cap_drop"] == ["ALL"]
    assert wanted["security_opt"] == ["no-new-privileges:true"]
    assert "cap_add" not in wanted
    assert all(str(port).startswith("127.0.0.1:") for port in wanted.get("ports", []))


@pytest.mark.parametrize("service", ["resolver", "admin"])
def test_what_compose_sets_is_a_setting(service: str) -> None:
    wanted = _compose()["services"][service]
    environment = {name: _interpolate(value) for name, value in wanted["environment"].items()}
    (program,) = wanted["command"]
    settings = read_settings({}, environment, program=program)
    assert settings.redis
    port = {"resolver": settings.ops_listen, "admin": settings.api_listen}[service]
    assert port
    assert environment["HEALTH_URL"] == f"http://127.0.0.1:{port.port}/livez"


def test_compose_pins_the_resolver_inside_its_network() -> None:
    compose = _compose()
    subnets = [entry["subnet"] for entry in compose["networks"]["names"]["ipam"]["config"]]
    addresses = compose["services"]["resolver"]["networks"]["names"]
    bound = [
        prefix.partition("=")[0]
        for prefix in compose["services"]["resolver"]["environment"]["INTERLOCK_BIND"].split(",")
    ]
    assert subnets == bound == ["172.28.53.0/24", "fd12::/64"]
    assert (addresses["ipv4_address"], addresses["ipv6_address"]) == ("172.28.53.10", "fd12::10")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != TRANSCRIPT], ids=lambda page: str(page.relative_to(ROOT))
)
def test_what_a_page_tells_one_to_run_exists(page: Path) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in _command_lines(page.read_text()):
        if made := re.match(r"make (\w+)", line):
            assert made[1] in targets, line
        if typed := re.match(r"(?:docker compose exec \w+ )?interlock ([a-z].*)", line):
            _check_command(typed[1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_to_exists(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_no_tracked_file_names_a_registry_or_this_machine() -> None:
    places = [f"{place}/" for place in (ROOT, Path.home()) if len(place.parts) > 2]
    for path, text in _tracked_texts():
        found = [word for word in (*REGISTRIES, *places) if word in text]
        assert not found, f"{path} names {found}"
        assert path.name == Path(__file__).name or not INDEX_OPTION.search(text.replace("--no-emit", "")), path


def test_the_locks_pin_all_that_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for lock, wanted in {
        "requirements.lock": project["project"]["dependencies"],
        "requirements-build.lock": project["build-system"]["requires"],
    }.items():
        pinned = re.findall(r"^([\w.-]+)==\S+.*\\$", text := (ROOT / lock).read_text(), re.MULTILINE)
        # An extra, as in redis[hiredis], is a package of its own, which the lock pins as well.
        names = {name.lower() for each in wanted for name in re.split(r"[<>=~ ]", each)[0].rstrip("]").split("[")}
        assert names <= set(pinned), f"{lock} is old: make lock"
        assert text.count("--hash=sha256:") >= len(pinned)
        assert "://" not in text


def _environment(text: str) -> dict[str, str]:
    """What a unit sets, with systemd's directories (systemd.unit(5)) in the place of their specifiers."""
    found = dict(line.split("=", 1) for line in re.findall(r"^Environment=(.*)$", text, re.MULTILINE))
    return {name: value.replace("%S", "/var/lib").replace("%t", "/run") for name, value in found.items()}


def _runnable(unit: Path, directory: Path) -> Path:
    """A copy of ``unit`` whose program is there: systemd asks for one."""
    copy = directory / unit.name
    copy.write_text(unit.read_text().replace("/opt/interlock/bin/interlock", "/bin/true"))
    return copy


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, timeout=60)


def _compose() -> Any:
    return YAML(typ="safe").load(ROOT / "deploy/compose.yaml")


def _interpolate(value: str) -> str:
    """What compose makes of ``value``: the default of a variable that has one, and something for the others."""
    return re.sub(r"\$\{\w+(?::-(\w*)|[^}]*)\}", lambda match: match[1] or "something", value)


def _command_lines(text: str) -> Iterator[str]:
    """The commands of a page: its indented lines and those in fences, each up to a # or a |."""
    is_fenced = False
    for line in text.splitlines():
        is_fenced ^= line.lstrip().startswith("```")
        if is_fenced or line.startswith("    "):
            yield re.split(r"\s[#|]", line.strip().removeprefix("$ "))[0].replace("…", "")


def _check_command(line: str) -> None:
    """Every word of ``line`` up to the first argument is a command, and every flag is one that it takes."""
    command: click.Command = interlock
    for word in shlex.split(line):
        if isinstance(command, click.Group) and not word.startswith("-"):
            assert word in command.commands, f"interlock {line}"
            command = command.commands[word]
        elif word.startswith("--") and word != "--help":
            flags: Mapping[str, object] = {
                flag: None for option in command.params for flag in (*option.opts, *option.secondary_opts)
            }
            assert word.partition("=")[0] in flags, f"interlock {line}"


def _tracked_texts() -> Iterator[tuple[Path, str]]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git clone, so nothing says which files are tracked")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file():
            yield path, path.read_text("utf-8", errors="replace")


@pytest.mark.skipif(os.getuid() != 0, reason="not root, and only what root installs is for other users")
def test_what_root_installs_is_made_of_a_python_that_other_users_can_read(tmp_path: Path) -> None:
    system = Path("/usr/bin/python3")
    if not system.exists() or subprocess.run([system, "-c", "import ensurepip, venv"], capture_output=True).returncode:
        pytest.skip("not installed: python3-venv")
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    shutil.copy(system.resolve(), private / "python3")
    environ = {**os.environ, "PATH": f"{private}:/usr/bin:/bin"}
    made = tmp_path / "made"
    command = [str(ROOT / "deploy/venv"), str(made), "--no-index", "pip"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, umask=0o077)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^home = /usr/bin$", (made / "pyvenv.cfg").read_text(), re.MULTILINE)
    assert made.stat().st_mode & 1  # whatever root's umask is
