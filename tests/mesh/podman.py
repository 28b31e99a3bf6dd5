"""Debian's podman on a host of the mesh, with CNI networks, and containers of two C libraries without any registry.

The tests build the images themselves. An image has the test program and, if that is linked to one, its C library.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients.builds import Build
from tests.mesh.mesh import Node
from tests.mesh.talking import PORT, Reply, read_answer

PLUGIN = Path(sys.executable).with_name("interlock-cni")
PLUGINS = Path("/usr/lib/cni")  # Debian's place for those of containernetworking-plugins
NEEDED = {"podman": "podman", "crun": "crun", str(PLUGINS / "bridge"): "containernetworking-plugins"}

_CONF = """
[engine]
lock_type = "file" # in shared memory they would be those of all podmans on the machine
events_logger = "none"
[network]
network_backend = "cni"
network_config_dir = "{directory}/net.d"
cni_plugin_dirs = ["{ours}", "{theirs}"]
"""
# Limits may not be raised here, and cgroups are the machine's, of whatever version.
RUN = ("--cgroups", "disabled", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--log-driver", "none")


def why_not() -> str:
    """Why this machine cannot run containers; empty if it can."""
    missing = sorted({package for command, package in NEEDED.items() if not shutil.which(command)})
    return f"not installed: {', '.join(missing)} (tests/setup installs them)" if missing else ""


@dataclass(frozen=True, slots=True)
class Container:
    """A running container, called ``id`` by podman."""

    podman: Podman
    id: str

    def talk(self, *words: object) -> Reply:
        """The answer of the test program to one request, in a new process inside."""
        result = self.podman.run("exec", self.id, "/talk", *map(str, words))
        return read_answer(result.stdout, " ".join(map(str, words)))

    @property
    def resolv_conf(self) -> dict[str, set[str]]:
        """The values in its resolv.conf, by keyword."""
        path = self.podman.run("inspect", "--format", "{{.ResolvConfPath}}", self.id).stdout.strip()
        values_by_keyword: dict[str, set[str]] = {}
        for line in self.podman.node.host.run(["cat", path]).stdout.splitlines():
            keyword, *values = line.split()
            values_by_keyword.setdefault(keyword, set()).update(values)
        return values_by_keyword

    @property
    def addresses(self) -> list[str]:
        """Its global IPv6 addresses, as podman has them from the plugins."""
        (found,) = json.loads(self.podman.run("inspect", self.id).stdout)
        return [network["GlobalIPv6Address"] for network in found["NetworkSettings"]["Networks"].values()]


class Podman:
    """podman on ``node``, with its files and images in ``directory``."""

    def __init__(self, node: Node, directory: Path) -> None:
        self.node = node
        self._directory = directory
        self._conf = directory / "containers.conf"
        self._conf.write_text(_CONF.format(directory=directory, ours=PLUGIN.parent, theirs=PLUGINS))
        self._networks = directory / "net.d"
        self._networks.mkdir()

    def add_network(self, name: str, *plugins: Mapping[str, Any]) -> None:
        """Adds a network that these plugins make, one after the other."""
        conflist = {"cniVersion": "1.0.0", "name": name, "plugins": plugins}
        (self._networks / f"{name}.conflist").write_text(json.dumps(conflist))

    def add_image(self, name: str, program: Build) -> None:
        """Adds an image that has ``program`` as ``/talk``, and only what the program needs."""
        path = Path(program.command[0])
        linked = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
        archive = self._directory / f"{name}.tar"
        with tarfile.open(archive, "w", dereference=True) as tar:
            tar.add(path, "talk")
            for library in re.findall(r"(/\S+) \(", linked):
                tar.add(library, library)
        self.run("import", "--quiet", str(archive), f"localhost/{name}")

    @contextlib.contextmanager
    def container(self, image: str, network: str, *flags: str) -> Iterator[Container]:
        """A container that serves, in ``network``."""
        made = self.run("run", "--detach", "--network", network, *RUN, *flags, image, "/talk", "serve", str(PORT))
        container = Container(self, made.stdout.strip())
        try:
            yield container
        finally:
            self.run("rm", "--force", "--time", "0", container.id)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The result of a podman command."""
        return self.node.host.run([*self._command(), *arguments], check=check)

    def _command(self) -> Sequence[str]:
        directories = (
            "--root",
            str(self._directory / "storage"),
            "--runroot",
            "/run/podman",
            "--tmpdir",
            "/run/libpod",
        )
        engine = ("--runtime", "crun", "--cgroup-manager", "cgroupfs")
        return ("env", f"CONTAINERS_CONF={self._conf}", "podman", *directories, *engine)


@contextlib.contextmanager
def on(node: Node, directory: Path) -> Iterator[Podman]:
    """podman on ``node`` for the length of a with-statement."""
    directory.mkdir()
    node.host.run(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"])  # crun needs one
    try:
        yield Podman(node, directory)
    finally:
        node.host.run(["umount", "/sys/fs/cgroup"])
