"""The command line alone: a mistake is one line, and help, settings and completion work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from interlock import cli
from interlock.settings.table import PROGRAMS, settings_of
from tests.interlock.processes import interlock, run


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("INTERLOCK_TOKEN", raising=False)


MISTAKES: Sequence[tuple[list[str], int, str]] = [
    (["up", "--foo"], 78, "No such option '--foo'"),
    (["upp"], 78, "No such command 'upp'. Did you mean 'up'?"),
    (["env", "crate", "x"], 78, "No such command 'crate'. Did you mean 'create'?"),
    (["help", "env", "nothing"], 78, "No such command 'nothing'"),
    (["help", "up", "extra"], 78, "has no commands below it"),
    (["instances", "ls", "--token", "x"], 78, "which environment? give --environment or set INTERLOCK_ENVIRONMENT, or"),
    (["up", "extra"], 78, "unexpected extra argument"),
    (["up", "--dns-listen", "53"], 78, "flag --dns-listen: '53' is not ADDRESS:PORT"),
    (["up", "--dns-listen"], 78, "requires an argument"),
    (["up", "--config", "/nonexistent.toml"], 78, "settings file /nonexistent.toml: No such file or directory"),
    (["up", "--redis", "http://x"], 78, "is not a Redis URL"),
    (["up", "--state-dir", "/proc/interlock"], 1, "state directory /proc/interlock cannot be used: No such file"),
    (["resolver"], 78, "needs a store: give --redis URL or set INTERLOCK_REDIS_URL"),
    (["admin"], 78, "needs a store"),
    (["config", "nothing"], 78, "'nothing' is not one of"),
    (["env", "list"], 78, "no admin token"),
    (["env", "list", "--token", "x", "--api", "http://127.0.0.1:9"], 1, "does not answer: Connection refused"),
    (["env", "get", "--token", "x"], 78, "Missing argument 'ENVIRONMENT'"),
    (["service", "list", "--token", "x"], 78, "which environment? give --environment"),
    (["service", "put", "api", "--port", "http"], 78, "'http' is not NAME:NUMBER/PROTOCOL"),
    (["service", "rename", "api", "web", "--overlap", "-1"], 78, "-1 is not in the range"),
    (["instance", "put", "api", "a1", "--state", "well"], 78, "'well' is not one of"),
    (["record", "put", "db", "CNAME"], 78, "Missing argument 'VALUES...'"),
    (["peer", "add"], 78, "Missing argument 'PEER'"),
    (["peer", "add", "laptop", "--token", "x"], 78, "which environment? give --environment"),
    (["peer", "config", "laptop", "--form", "pdf"], 78, "'pdf' is not one of"),
    (["host", "drain"], 78, "Missing argument 'HOST'"),
    (["host", "list"], 78, "no admin token"),
    (["query", "a..b"], 78, "empty label"),
    (["query", "a.b", "NONSENSE"], 78, "'NONSENSE' is not a record type"),
    (["query", "a.b", "TYPE65536"], 78, "is not a record type"),
    (["query", "a.b", "--server", "localhost"], 78, "is not ADDRESS:PORT"),
    (["query", "a.b", "--server", "127.0.0.1:9"], 1, "127.0.0.1 port 9"),
    (["tail"], 1, "no resolver has a query log"),
    (["completion", "tcsh"], 78, "'tcsh' is not one of"),
]


@pytest.mark.parametrize(("arguments", "status", "said"), MISTAKES, ids=[" ".join(m[0]) for m in MISTAKES])
def test_a_mistake_is_one_line(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("interlock: ")
    assert printed.err.count("\n") == 1
    assert said in printed.err


def test_mistakes_of_the_real_command_have_no_traceback() -> None:
    ended = run(*interlock("up"), environ={"INTERLOCK_DNS_LISTEN": "nowhere"})
    assert ended.returncode == 78
    assert ended.stderr == (
        "interlock: variable INTERLOCK_DNS_LISTEN: 'nowhere' is not ADDRESS:PORT:"
        " write it as in 127.0.0.1:53 or [::1]:53\n"
    )


def test_config_shows_values_and_origins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "interlock.toml"
    file.write_text('zone = "mesh.test"\nredis = "redis://:hunter2@store:6379"\n')
    assert cli.run(["config", "resolver", "--config", str(file), "--token", "hunter3", "--json"]) == 0
    printed = capsys.readouterr().out
    rows = {row["setting"]: (row["value"], row["origin"]) for row in json.loads(printed)}
    assert rows["zone"] == ("mesh.test.", f"file {file}")
    assert rows["redis"] == ("redis://:…@store:6379", f"file {file}")
    assert rows["token"] == ("…", "flag --token")
    assert rows["dns-listen"] == ("0.0.0.0:53,[::]:53", "default")
    assert "hunter" not in printed


def test_config_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["config", "--log-level", "debug"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["SETTING", "VALUE", "ORIGIN"]
    assert any(line.split() == ["log-level", "debug", "flag", "--log-level"] for line in lines)
    assert len({line.index(word) for line, word in zip(lines[:2], ("VALUE", "127"), strict=True)}) == 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_has_the_flags_that_the_table_gives_it(program: str) -> None:
    flags = {parameter.name for parameter in cli.interlock.commands[program].params}
    assert flags == {*settings_of(program), "config"}


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["version"]) == 0
    assert cli.run(["version", "--json"]) == 0
    assert cli.run(["--version"]) == 0
    human, *as_json, short = capsys.readouterr().out.splitlines()
    assert short == human == f"interlock {json.loads(''.join(as_json))['version']}"


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["env"], ["up", "-h"], ["help"], ["help", "envs", "rm"], ["env", "help"]]
)
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 0
    assert capsys.readouterr().out.startswith("Usage: interlock")


def test_help_names_each_variable_of_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["resolver", "--help"]) == 0
    assert "Also INTERLOCK_REDIS or INTERLOCK_REDIS_URL." in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("shell", "sign"), [("bash", "complete -o nosort"), ("zsh", "#compdef interlock"), ("fish", "complete --no-files")]
)
def test_completion_scripts(shell: str, sign: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["completion", shell]) == 0
    assert sign in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("interlock ser", {"service"}),
        ("interlock up --log-l", {"--log-level"}),
        ("interlock up --log-level ", {"debug", "info", "warning", "error"}),
        ("interlock instance put a b --state ", {"starting", "ready", "draining"}),
        ("interlock service list --env", {"--environment"}),
    ],
)
def test_completion(words: str, expected: set[str]) -> None:
    environ = {"_INTERLOCK_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    offered = CliRunner().invoke(cli.interlock, prog_name="interlock", env=environ).output
    assert {line.partition(",")[2] for line in offered.splitlines()} == expected
