"""The image: built as a user builds it, run as deploy/ runs it, and queried as its clients query it."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import containers
from tests.system.containers import CannotBuild, Container

pytestmark = pytest.mark.skipif(bool(reason := containers.why_not()), reason=f"images cannot be built here: {reason}")

API = "api.railway.internal"
ADDRESSES = re.compile(r"(fd12:[0-9a-f:]+\n)+")
UID = "10053"
LARGEST = 72 << 20  # octets on top of the base image, a sixth more than it has now
END_DEADLINE = 10.0  # seconds from SIGTERM; after ten, Docker's default, an engine sends SIGKILL


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    with containers.cache():
        try:
            seconds = containers.build_image()
        except CannotBuild as error:
            pytest.skip(f"no base image can be made here: {error}")
        print(f"built in {seconds:.1f} s, {containers.image_config()['Size'] / 1e6:.0f} MB")
        yield containers.IMAGE


@pytest.fixture(scope="module")
def up(image: str) -> Iterator[Container]:
    """`interlock up --demo` in a container that can write only to its volume."""
    with Container("up", ["up", "--demo"]) as container:
        _wait_for_addresses(container)
        yield container


def test_its_configuration(image: str) -> None:
    config = containers.image_config()
    assert config["User"] == "interlock"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["interlock"]
    assert set(config["ExposedPorts"]) == {"53/udp", "53/tcp", "8081/tcp", "8082/tcp"}
    assert set(config["Volumes"]) == {"/var/lib/interlock"}
    assert "HEALTH_URL=http://127.0.0.1:8081/livez" in config["Env"]


def test_it_is_small(image: str) -> None:
    base = int(containers.podman("image", "inspect", "--format", "{{.Size}}", containers.BASE).stdout)
    assert containers.image_config()["Size"] - base < LARGEST


def test_it_has_no_build_tools(image: str) -> None:
    look = "import glob, shutil; print(shutil.which('gcc'), glob.glob('/opt/interlock/**/pip*', recursive=True))"
    with Container("look", ["-c", look], "--entrypoint", "/opt/interlock/bin/python") as container:
        assert container.process.wait(containers.DEADLINE) == 0, container.log
        assert container.log == "None []\n"


@pytest.mark.parametrize("flags", [(), ("+tcp",)], ids=["udp", "tcp"])
@pytest.mark.parametrize("server", ["127.0.0.1", "::1"])
def test_it_answers(up: Container, server: str, flags: tuple[str, ...]) -> None:
    assert ADDRESSES.fullmatch(up.dig(f"@{server}", API, "AAAA", "+short", *flags))


def test_an_unknown_name_does_not_exist(up: Container) -> None:
    assert "status: NXDOMAIN" in up.dig("@127.0.0.1", "nosuch.railway.internal", "AAAA")


def test_its_own_commands_answer_inside(up: Container) -> None:
    result = up.exec("interlock", "query", API, "AAAA")
    assert result.returncode == 0, result.stderr
    assert "fd12:" in result.stdout


def test_its_health_check_passes(up: Container) -> None:
    result = up.check_health()
    assert result.returncode == 0, result.stdout + result.stderr


def test_it_is_unprivileged(up: Container) -> None:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{up.pid}/status").read_text().splitlines())
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {UID}
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


def test_a_wrong_setting_is_one_line_and_status_78(image: str) -> None:
    with Container("wrong", ["up"], "--env", "INTERLOCK_DNS_LISTEN=nowhere") as container:
        assert container.process.wait(containers.DEADLINE) == 78, container.log
        assert re.fullmatch(r"interlock: variable INTERLOCK_DNS_LISTEN: .*\n", container.log)


def test_sigterm_ends_it_and_its_data_stays(image: str) -> None:
    addresses = []
    with containers.volume() as volume:
        for command in (["up", "--demo"], ["up", "--bind", "127.0.0.0/8=demo"]):
            with Container("stop", command, f"--volume={volume}:/var/lib/interlock") as container:
                addresses.append(_wait_for_addresses(container))
                status, seconds = container.terminate()
                assert status == 0, container.log
                assert seconds < END_DEADLINE
    assert addresses[0] == addresses[1]


@pytest.mark.skipif(not shutil.which("redis-server"), reason="not installed: redis-server (tests/setup installs it)")
def test_resolver_and_admin_run_in_containers_of_their_own(image: str, tmp_path: Path) -> None:
    """As compose.yaml has it: a store with a password, a resolver and an admin API, each in a container of its own."""
    url = "INTERLOCK_REDIS_URL=redis://:sesame@127.0.0.1:6379/0"
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(containers.network())
        stack.enter_context(containers.redis(network, tmp_path, password="sesame"))
        resolver = stack.enter_context(
            Container(
                "resolver", ["resolver", "--bind", "127.0.0.0/8=shop"], "--env", url,
                "--env", "HEALTH_URL=http://127.0.0.1:8082/livez", network=network,
            )
        )  # fmt: skip
        admin = stack.enter_context(Container("admin", ["admin"], "--env", url, network=network))
        admin.wait_for("health", lambda: admin.check_health().returncode == 0)
        resolver.wait_for("health", lambda: resolver.check_health().returncode == 0)
        for command in (
            "env create shop",
            "service put api --environment shop --port http:8080/tcp",
            "instance put api a1 --environment shop --state ready",
        ):
            result = admin.exec("interlock", *command.split())
            assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}{admin.log}"
        assert _wait_for_addresses(resolver)
        assert resolver.terminate()[0] == 0, resolver.log
        assert admin.terminate()[0] == 0, admin.log


def _wait_for_addresses(container: Container) -> set[str]:
    def addresses() -> set[str]:
        found = container.dig("@127.0.0.1", API, "AAAA", "+short")
        return set(found.split()) if ADDRESSES.fullmatch(found) else set()

    found: set[str] = container.wait_for("an answer", addresses)
    return found
