"""Settings: the sources of a value, which of them counts, and the error for a wrong value."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from interlock.errors import BadSetting
from interlock.settings.setting import Raw
from interlock.settings.sources import read_settings
from interlock.settings.table import TABLE, Settings
from interlock.settings.values import AUTO_WORKERS, Binding

HOME = {"XDG_STATE_HOME": "/state"}


def read(
    flags: dict[str, Raw] | None = None, environ: dict[str, str] | None = None, file: str = "", program: str = ""
) -> Settings:
    return read_settings(flags or {}, HOME | (environ or {}), config=file or None, program=program)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "interlock.toml"


def test_a_flag_overrides_a_variable_and_a_variable_the_file(file: Path) -> None:
    file.write_text('api-listen = "127.0.0.1:1"\nlog-level = "error"\nzone = "one.test"\n')
    settings = read({"log_level": "debug"}, {"INTERLOCK_LOG_LEVEL": "warning", "INTERLOCK_ZONE": "two.test"}, str(file))
    assert str(settings.api_listen) == "127.0.0.1:1"
    assert str(settings.platform.apex) == "two.test."
    assert settings.log_level == "debug"
    assert settings.origins["api_listen"] == f"file {file}"
    assert settings.origins["zone"] == "variable INTERLOCK_ZONE"
    assert settings.origins["log_level"] == "flag --log-level"
    assert settings.origins["redis"] == "default"
    assert settings.is_default("redis")


def test_the_variable_names_the_file(file: Path) -> None:
    file.write_text('bind = ["10.0.0.0/8=one", "::1=two"]\ndemo = true\n')
    settings = read(environ={"INTERLOCK_CONFIG": str(file)})
    assert [str(binding) for binding in settings.bind] == ["10.0.0.0/8=one", "::1/128=two"]
    assert isinstance(settings.bind[0], Binding)
    assert settings.demo


def test_a_table_of_the_file_counts_for_one_program(file: Path) -> None:
    file.write_text('log-level = "error"\n[agent]\nlog-level = "debug"\nops-listen = "0.0.0.0:1"\n')
    agent, resolver = (read(file=str(file), program=program) for program in ("agent", "resolver"))
    assert (agent.log_level, str(agent.ops_listen)) == ("debug", "0.0.0.0:1")
    assert (resolver.log_level, str(resolver.ops_listen)) == ("error", "127.0.0.1:8082")


@pytest.mark.parametrize(
    "text", ["[agent]\nlog-levle = 'info'\n", "[agnet]\nlog-level = 'info'\n", "[zone]\na = 'b'\n"]
)
def test_a_wrong_table_is_named(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(BadSetting, match=r"agent|agnet|zone"):
        read(file=str(file), program="resolver")


@pytest.mark.parametrize(
    ("program", "addresses"),
    [("up", "127.0.0.1:1053 ::1:1053"), ("resolver", "0.0.0.0:53 :::53"), ("", "127.0.0.1:1053 ::1:1053")],
)
def test_defaults_differ_by_program(program: str, addresses: str) -> None:
    settings = read(program=program)
    assert " ".join(f"{host}:{port}" for host, port in settings.dns_listen) == addresses


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_STATE_HOME": "/s"}, "/s/interlock"),
        ({"XDG_STATE_HOME": "relative"}, str(Path("~/.local/state/interlock").expanduser())),
        ({"XDG_STATE_HOME": ""}, str(Path("~/.local/state/interlock").expanduser())),
    ],
)
def test_the_state_directory_follows_xdg(environ: dict[str, str], expected: str) -> None:
    assert str(read(environ=environ).state_dir) == expected


@pytest.mark.parametrize("variable", ["INTERLOCK_REDIS", "INTERLOCK_REDIS_URL"])
def test_the_store_has_two_variables(variable: str) -> None:
    settings = read(environ={variable: "redis://user:secret@store:6379/0"})
    assert settings.redis == "redis://user:secret@store:6379/0"
    assert TABLE["redis"].show(settings.redis) == "redis://user:…@store:6379/0"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("dns_listen", "127.0.0.1:53, [::1]:53,,", "127.0.0.1:53,[::1]:53"),
        ("dns_listen", "127.0.0.1:53,127.0.0.1:53", "127.0.0.1:53"),
        ("ops_listen", "", ""),
        ("ops_listen", "[::]:0", "[::]:0"),
        ("bind", "::1/128=demo,10.0.0.1=demo", "::1/128=demo,10.0.0.1/32=demo"),
        ("bind", "", ""),
        ("redis", "", ""),
        ("redis", "unix:///run/store.sock", "unix:///run/store.sock"),
        ("redis", "sentinel://:pw@one:26379,two/main", "sentinel://:…@one:26379,two/main"),
        ("upstream", "none", "none"),
        ("upstream", "192.0.2.1,corp.example=[2001:db8::1]:5353", "192.0.2.1,corp.example=[2001:db8::1]:5353"),
        ("demo", "Yes", "true"),
        ("redis_wait", "all", "all"),
        ("redis_wait", "02", "2"),
        ("workers", "auto", "auto"),
        ("demo", "", "false"),
        ("platform_prefix", "fd99::/16", "fd99::/16"),
        ("zone", "Mesh.Internal.", "mesh.internal."),
        ("api", "https://api.test/,http://b.test", "https://api.test,http://b.test"),
        ("token", "very-secret", "…"),
        ("token", "", ""),
        ("environment", "production", "production"),
        ("store_server", "/usr/bin/redis-server", "/usr/bin/redis-server"),
        ("state_dir", "/var/lib/interlock", "/var/lib/interlock"),
    ],
)
def test_good_values(name: str, text: str, shown: str) -> None:
    setting = TABLE[name]
    settings = read(environ={setting.variables[0]: text})
    assert setting.show(getattr(settings, name)) == shown
    if "…" not in shown:  # what is shown can be written
        assert getattr(read(environ={setting.variables[0]: shown}), name) == getattr(settings, name)


BAD_VALUES = [
    ("dns_source_rate", "", "not a whole number"),
    ("dns_source_rate", "-1", "not a whole number"),
    ("dns_source_rate", "9" * 5000, "not a whole number"),
    ("quota", "instances", "not KIND=N"),
    ("quota", "cats=5", "not KIND=N"),
    ("quota", "peers=-1", "not a whole number"),
    ("snapshot_limit", "", "not a whole number of MiB"),
    ("snapshot_limit", "-1", "not a whole number of MiB"),
    ("snapshot_limit", "1G", "not a whole number of MiB"),
    ("snapshot_limit", "9" * 5000, "not a whole number of MiB"),
    ("dns_listen", "", "at least one"),
    ("dns_listen", "53", "is not ADDRESS:PORT"),
    ("dns_listen", "localhost:53", "no IP address"),
    ("dns_listen", "127.0.0.1", "is not ADDRESS:PORT"),
    ("dns_listen", "127.0.0.1:65536", "is not ADDRESS:PORT"),
    ("dns_listen", "127.0.0.1:-1", "is not ADDRESS:PORT"),
    ("dns_listen", "::1:53", "is not ADDRESS:PORT"),
    ("dns_listen", "[127.0.0.1]:53", "brackets"),
    ("dns_listen", "[]:53", "no IP address"),
    ("dns_listen", ":53", "no IP address"),
    ("dns_listen", "256.0.0.1:53", "no IP address"),
    ("dns_listen", "127.0.0.1:٥٣", "is not ADDRESS:PORT"),
    ("api_listen", "", "is not ADDRESS:PORT"),
    ("api_listen", "127.0.0.1:1,127.0.0.1:2", "is not ADDRESS:PORT"),
    ("hosts_listen", "8443", "is not ADDRESS:PORT"),
    ("host_grace", "", "is not a number of seconds"),
    ("host_grace", "-1", "is not a number of seconds"),
    ("host_grace", "inf", "is not a number of seconds"),
    ("ops_listen", "off", "is not ADDRESS:PORT"),
    ("state_dir", "", "is not a path"),
    ("state_dir", "~no-such-user-here/x", "home directory"),
    ("redis", "localhost:6379", "is not a Redis URL"),
    ("redis", "http://localhost", "is not a Redis URL"),
    ("redis", "unix://", "names no socket"),
    ("redis", "sentinel://host", "lacks hosts or a primary"),
    ("redis", "sentinel://host:port/main", "cannot be read"),
    ("redis", "redis://:hunter2@host:99999", "cannot be read"),
    ("redis", "redis://[::1", "cannot be read"),
    ("redis", "redis://host?colour=red", "has an option that redis-py does not know"),
    ("redis", "sentinel://host/main?colour=red", "has an unknown option 'colour'"),
    ("redis_ca", "~no-such-user-here/x", "home directory"),
    ("redis_replicas", "some", "neither true nor false"),
    ("redis_whole", "some", "neither true nor false"),
    ("redis_wait", "-1", "is not a number from 0"),
    ("redis_wait", "most", "is not a number from 0"),
    ("workers", "0", "is not a number from 1"),
    ("workers", "-1", "is not a number from 1"),
    ("workers", "257", "is not a number from 1"),
    ("workers", "many", "nor 'auto'"),
    ("redis_prefix", "", "is empty"),
    ("redis_prefix", "a b", "white space"),
    ("bind", "::1/128", "is not PREFIX=ENVIRONMENT"),
    ("bind", "::1/128=", "is not an environment id"),
    ("bind", "::1/128=Demo!", "is not an environment id"),
    ("bind", "10.0.0.1/8=demo", "host bits"),
    ("bind", "everywhere=demo", "is not a network"),
    ("bind", "::1/128=one,::1=two", "choose one"),
    ("upstream", "dns.example", "is not an upstream"),
    ("upstream", "192.0.2.1:0", "use 1 to 65535"),
    ("upstream", "a..b=192.0.2.1", "empty label"),
    ("upstream", "192.0.2.1,none", "choose one"),
    ("demo", "perhaps", "neither true nor false"),
    ("mesh", "perhaps", "neither true nor false"),
    ("undelete_within", "1d", "is not a number of seconds"),
    ("undelete_within", "-1", "is not a number of seconds"),
    ("platform_prefix", "fd12::/48", "/16"),
    ("platform_prefix", "10.0.0.0/16", "is not an IPv6 network"),
    ("platform_prefix", "fd12::1/16", "host bits"),
    ("zone", "internal", "at least two labels"),
    ("zone", "a..b", "empty label"),
    ("zone", f"{'a' * 64}.internal", "at most 63"),
    ("log_level", "loud", "is not one of debug, info, warning, error"),
    ("log_level", "INFO", "is not one of"),
    ("log_format", "xml", "is not one of console, json"),
    ("api", "127.0.0.1:8081", "is not the URL of an API"),
    ("api", "ftp://host", "is not the URL of an API"),
    ("api", "http://host:port", "is not the URL of an API"),
    ("token", "hunter2 hunter3", "white space"),
    ("environment", "Production", "is not an environment id"),
    ("host", "Host_1", "cannot be a host id"),
    ("endpoint", "0.0.0.0:51820", "not where others reach"),
    ("endpoint", "192.0.2.1:0", "not where others reach"),
    ("endpoint", "host:51820", "no IP address"),
    ("behind_nat", "perhaps", "neither true nor false"),
    ("endpoint", "auto:port", "is not ADDRESS:PORT"),
    ("region", "EU", "cannot be a region"),
    ("agent_dir", "~no-such-user-here/x", "home directory"),
    ("wireguard", "fast", "is not one of auto, kernel, userspace"),
    ("device", "much-too-long-a-name", "cannot name a device"),
    ("device", "a/b", "cannot name a device"),
    ("guard_share", "half", "is not a share"),
    ("guard_share", "1.1", "is not a share"),
    ("guard_name_share", "nan", "is not a share"),
    ("guard_release_after", "-1", "is not a number of seconds"),
    ("guard_release_after", "inf", "is not a number of seconds"),
]


@pytest.mark.parametrize(("name", "text", "said"), BAD_VALUES)
def test_bad_values(name: str, text: str, said: str) -> None:
    setting = TABLE[name]
    with pytest.raises(BadSetting) as from_variable:
        read(environ={setting.variables[0]: text})
    with pytest.raises(BadSetting) as from_flag:
        read({name: [text] if setting.collect and text else text})
    assert str(from_variable.value).startswith(f"variable {setting.variables[0]}: ")
    assert str(from_flag.value).startswith(f"flag {setting.flag}: ")
    for error in (from_variable.value, from_flag.value):
        assert said in str(error)
        assert "\n" not in str(error)
        assert "hunter2" not in str(error)


def test_every_setting_that_can_be_wrong_is_tested() -> None:
    assert {name for name, *_ in BAD_VALUES} == TABLE.keys() - {"store_server", "agent_group", "enrol"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('zonne = "x.y"', "there is no setting 'zonne': did you mean zone?"),
        ("[dns]\nlisten = 1", "there is no setting 'dns'"),
        ("zone = ", "Invalid value"),
        ("zone = 1", "key zone: 1 is not a text: write it in quotes"),
        ('dns-listen = ["127.0.0.1:53", 53]', "key dns-listen: ['127.0.0.1:53', 53] is not a list of texts"),
        ("workers = true", "key workers: 'true' is not a number from 1"),
        ("workers = 2.0", "key workers: '2.0' is not a number from 1"),
        ("guard-share = nan", "key guard-share: 'nan' is not a share"),
        ("bind = true", "key bind: True is not a list of texts"),
        ('demo = "x"', "key demo: 'x' is neither true nor false"),
    ],
)
def test_bad_files(file: Path, content: str, said: str) -> None:
    file.write_text(content)
    with pytest.raises(BadSetting) as caught:
        read(file=str(file))
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("workers", "2", 2),
        ("workers", '"auto"', AUTO_WORKERS),
        ("redis_wait", "1", 1),
        ("snapshot_limit", "64", 64),
        ("dns_source_rate", "1_000", 1000),
        ("host_grace", "2.5", 2.5),
        ("guard_share", "0.25", 0.25),
        ("guard_name_share", "1", 1.0),
        ("guard_release_after", "60", 60.0),
        ("undelete_within", "3600", 3600.0),
    ],
)
def test_a_number_in_a_file_needs_no_quotes(file: Path, name: str, written: str, value: float) -> None:
    file.write_text(f"{TABLE[name].key} = {written}\n")
    assert getattr(read(file=str(file)), name) == value


def test_every_setting_whose_default_is_a_number_takes_one() -> None:
    numbers = {name for name, setting in TABLE.items() if re.fullmatch(r"[0-9.]+", str(setting.default))}
    assert {name for name, setting in TABLE.items() if setting.is_number} == numbers


def test_a_file_that_cannot_be_read(file: Path) -> None:
    with pytest.raises(BadSetting, match="No such file or directory"):
        read(file=str(file))
    file.write_bytes(b"zone = '\xff'")
    with pytest.raises(BadSetting, match="utf-8"):
        read(file=str(file))


def test_an_unknown_variable_is_a_mistake() -> None:
    with pytest.raises(BadSetting, match="there is no such setting: did you mean INTERLOCK_DNS_LISTEN"):
        read(environ={"INTERLOCK_DNS_LISTN": "x"})


@pytest.mark.parametrize(
    "variable",
    [
        "INTERLOCK_PORT",
        "INTERLOCK_SERVICE_HOST",
        "INTERLOCK_SERVICE_PORT_DNS",
        "INTERLOCK_ADMIN_PORT_8081_TCP_ADDR",
        "INTERLOCK_REDIS_SERVICE_PORT",
        "_INTERLOCK_COMPLETE",
    ],
)
def test_the_variables_that_kubernetes_sets_for_services_are_ignored(variable: str) -> None:
    read(environ={variable: "tcp://10.0.0.1:53"})
