"""Real images and containers on a machine without a container engine's daemon and without a registry.

The base image comes from debootstrap and is kept, with the layers of a build, in a cache below ~/.cache, so a second
run takes seconds. The image is built by deploy/image, as a user builds it; podman runs it. Two things of some machines
are worked around, see `_ENTER`: cgroups of both versions at once, and limits that may not be raised.
"""

from __future__ import annotations

import configparser
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "interlock-tests"
SUITE = "bookworm"
BASE = f"localhost/interlock-tests-base:{SUITE}"
IMAGE = "localhost/interlock-tests:built"
NEEDED = ("debootstrap", "buildah", "podman", "crun", "unshare", "nsenter", "dig")

BUILD_DEADLINE = 600.0  # seconds; the first build makes a base system and fetches every dependency
COMMAND_DEADLINE = 60.0
DEADLINE = 30.0  # seconds until a container answers, or has ended

# crun refuses cgroups of both versions at once, so the second one is hidden from it.
_ENTER = ("unshare", "--mount", "sh", "-c", 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"', "sh")
# The runtime directory must have a short path, because of podman's sockets below it.
_STORAGE = ("--root", str(CACHE / "containers"), "--runroot", "/run/interlock-tests")
_PODMAN = ("podman", *_STORAGE, "--runtime", "crun", "--cgroup-manager", "cgroupfs", "--events-backend", "none")
_RUN = ("--cgroups", "disabled", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
# The settings of pip that say where packages are found; the others are not passed on.
_PIP_KEYS = frozenset(
    {"cert", "client-cert", "extra-index-url", "find-links", "index-url", "no-index", "proxy", "timeout"}
)
_ENVIRON = {**os.environ, "DISABLE_HC_SYSTEMD": "true", "LC_ALL": "C.UTF-8"}


class CannotBuild(Exception):
    """This machine cannot make the base image; the text says why."""


def why_not() -> str:
    """Why this machine cannot build and run images; empty if it can."""
    with contextlib.suppress(OSError):
        if "\nID=debian\n" in "\n" + Path("/etc/os-release").read_text():
            if os.getuid() != 0:
                return "not root, and building an image from nothing needs it"
            missing = [command for command in NEEDED if not shutil.which(command)]
            return f"not installed: {', '.join(missing)} (tests/setup installs them)" if missing else ""
    return "not Debian, and the base image is made by its debootstrap"


@contextlib.contextmanager
def cache() -> Iterator[None]:
    """Locks the cache, so that two runs of the tests on one machine do not use it at once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def podman(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The result of a podman command."""
    return _run([*_PODMAN, *arguments], check=check)


def build_image() -> float:
    """Builds `IMAGE` from the Dockerfile with deploy/image; gives the seconds that it took. Raises `CannotBuild`."""
    began = time.monotonic()
    if podman("image", "exists", BASE, check=False).returncode != 0:
        _make_base()
    with tempfile.TemporaryDirectory() as directory:
        settings = Path(directory) / "pip.conf"
        volumes = _write_pip_settings(settings)
        result = subprocess.run(
            [ROOT / "deploy/image", "--secret", f"id=pip.conf,src={settings}", *volumes],
            env={**_ENVIRON, "ENGINE": "buildah", "STORAGE": " ".join(_STORAGE), "BASE": BASE, "TAG": IMAGE},
            capture_output=True,
            text=True,
            timeout=BUILD_DEADLINE,
        )
    assert result.returncode == 0, f"the image does not build:\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    podman(
        "image", "prune", "--force", "--filter", "until=24h", check=False
    )  # removes layers that no build has used since
    return time.monotonic() - began


def image_config() -> dict[str, Any]:
    """The configuration of the image."""
    (found,) = json.loads(podman("image", "inspect", IMAGE).stdout)
    config: dict[str, Any] = found["Config"]
    return config | {"Size": found["Size"]}


@contextlib.contextmanager
def volume() -> Iterator[str]:
    """The name of an empty volume, which is removed at the end."""
    name = f"interlock-tests-{secrets.token_hex(4)}"
    podman("volume", "create", name)
    try:
        yield name
    finally:
        podman("volume", "rm", "--force", name, check=False)


@contextlib.contextmanager
def network() -> Iterator[str]:
    """The path of a network namespace of its own, with a loopback on which any user may listen on port 53."""
    name = f"interlock-tests-{secrets.token_hex(4)}"
    _run(["ip", "netns", "add", name], check=True)
    try:
        open_port = "ip link set lo up && echo 53 >/proc/sys/net/ipv4/ip_unprivileged_port_start"
        _run(["ip", "netns", "exec", name, "sh", "-c", open_port], check=True)
        yield f"ns:/run/netns/{name}"
    finally:
        _run(["ip", "netns", "delete", name], check=False)


@contextlib.contextmanager
def redis(network: str, directory: Path, *, password: str) -> Iterator[None]:
    """The distribution's Redis on port 6379 of the loopback of ``network``."""
    enter = ["nsenter", f"--net={network.removeprefix('ns:')}"]
    options = ["--bind", "127.0.0.1", "--dir", str(directory), "--requirepass", password, "--appendonly", "yes"]
    with (directory / "redis.log").open("wb") as log:
        process = subprocess.Popen([*enter, "redis-server", *options], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def copy_out(path: str, directory: Path) -> None:
    """Copies ``path`` of the image into ``directory``."""
    name = podman("create", "--network", "none", IMAGE).stdout.strip()
    try:
        podman("cp", f"{name}:{path}", str(directory))
    finally:
        podman("rm", "--force", name)


class Container:
    """A running container of `IMAGE` with no network but its own loopback, or in the namespace ``network``.

    It is run as deploy/ runs it: a root file system that cannot be written, no capability, and port 53 opened by a
    sysctl of its network namespace. ``process`` is its podman, which ends as the container does.
    """

    def __init__(self, name: str, command: Sequence[str], *flags: str, network: str = "none") -> None:
        self.name = f"interlock-tests-{name}-{os.getpid()}"
        opened = ("--sysctl", "net.ipv4.ip_unprivileged_port_start=53") if network == "none" else ()
        self._command = [
            *_ENTER, *_PODMAN, "run", "--rm", "--name", self.name, "--network", network, *_RUN, *opened,
            "--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--log-driver", "none",
            *flags, IMAGE, *command,
        ]  # fmt: skip
        self._log = tempfile.NamedTemporaryFile("w+", prefix="interlock-container-")  # noqa: SIM115 closed by __exit__

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, env=_ENVIRON
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            podman("kill", "--signal", "KILL", self.name, check=False)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            self.process.kill()
            self.process.wait()
        self._log.close()

    @property
    def log(self) -> str:
        """Its output so far."""
        return Path(self._log.name).read_text()

    @property
    def pid(self) -> int:
        """The process id, seen from the host, of its first process."""
        return int(podman("inspect", "--format", "{{.State.Pid}}", self.name).stdout)

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """The result of a command inside."""
        return self._podman("exec", self.name, *command)

    def check_health(self) -> subprocess.CompletedProcess[str]:
        """The result of the image's own health check."""
        return self._podman("healthcheck", "run", self.name)

    def _podman(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        # The container's file system is mounted where it was started only.
        return _run(["nsenter", "--mount", "--target", str(self.process.pid), *_PODMAN, *arguments], check=False)

    def dig(self, *arguments: str) -> str:
        """The output of dig, run in its network namespace."""
        command = ["nsenter", "--net", "--target", str(self.pid), "dig", "+time=2", "+tries=1", *arguments]
        return _run(command, check=False).stdout

    def wait_for(self, what: str, wanted: Any) -> Any:
        """Waits until ``wanted()`` is true and gives it; fails, with the log, if the container ends or time is up."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(subprocess.CalledProcessError):  # it may not exist yet
                if found := wanted():
                    return found
            time.sleep(0.1)
        raise AssertionError(f"{what}: not within {DEADLINE} s (status {self.process.poll()}):\n{self.log}")

    def terminate(self) -> tuple[int, float]:
        """Sends SIGTERM to its first process; gives the exit status and the seconds until then."""
        began = time.monotonic()
        podman("kill", "--signal", signal.SIGTERM.name, self.name)
        return self.process.wait(DEADLINE), time.monotonic() - began


def _make_base() -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        root = Path(directory) / "root"
        make_debian(root, "python3,python3-venv,ca-certificates")
        left_out = ("--exclude=./proc/*", "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*")
        with subprocess.Popen(["tar", "-C", str(root), *left_out, "-c", "."], stdout=subprocess.PIPE) as packing:
            subprocess.run([*_PODMAN, "import", "--quiet", "-", BASE], stdin=packing.stdout, check=True, env=_ENVIRON)


def make_debian(root: Path, packages: str) -> None:
    """Makes a small Debian with ``packages`` in the folder ``root``. Raises `CannotBuild`."""
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(root), *_mirror()]
    made = _run(command, check=False, deadline=BUILD_DEADLINE)
    if made.returncode != 0:
        raise CannotBuild(f"debootstrap: {(made.stdout + made.stderr).strip()[-200:]}")


def _mirror() -> list[str]:
    # Where this machine's own packages come from, if they are of the suite.
    listed = _run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME) $(SITE)"], check=False).stdout
    return [line.split()[2] for line in listed.splitlines() if line.startswith(f"Debian {SUITE} ")][:1]


def _write_pip_settings(path: Path) -> list[str]:
    """Writes to ``path`` where this machine's pip finds packages; gives the flags that bring local places along."""
    listed = _run([sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"], check=False).stdout
    settings: dict[str, str] = {}
    for line in sorted(listed.splitlines()):  # :env: comes before global, and counts more
        name, _, quoted = line.partition("=")
        key = name.rpartition(".")[2]
        if key in _PIP_KEYS:
            settings.setdefault(key, quoted[1:-1].replace("\\n", " "))
    parser = configparser.RawConfigParser()
    parser["global"] = settings
    with path.open("w") as file:
        parser.write(file)
    places = {_local_place(word) for value in settings.values() for word in value.split()} - {None}
    return [f"--volume={place}:{place}:ro" for place in sorted(map(str, places))]


def _local_place(word: str) -> Path | None:
    url = urlsplit(word)
    path = Path(url.path)
    if url.scheme not in ("", "file") or not path.is_absolute() or not path.exists():
        return None
    # The pages of an index point to files beside it.
    return path.parent if path.name == "simple" and len(path.parts) > 2 else path


def _run(
    command: Sequence[str], *, check: bool, deadline: float = COMMAND_DEADLINE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, check=check, capture_output=True, text=True, timeout=deadline, stdin=subprocess.DEVNULL, env=_ENVIRON
    )
