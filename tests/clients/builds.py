"""How each client is made: compiled from `programs/`, or found on the machine. What is made is kept in a cache.

A build is a command, settings for its environment, and the version that it turned out to have. `Unavailable` says why
there is none, in words for the table.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
LOOKUP = PROGRAMS / "lookup.c"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "interlock-tests" / "clients"
_BUILD_DEADLINE = 600.0  # seconds; a wheel of 80 MB on a slow line, or zig's first build of musl on a busy machine
_JAVA = Path("/usr/share/java")


class Unavailable(Exception):
    """This machine cannot have the client."""


@dataclass(frozen=True, slots=True)
class Build:
    """What is run, with ``environ`` added to the environment."""

    command: tuple[str, ...]
    version: str
    environ: Mapping[str, str] = field(default_factory=dict)


Maker = Callable[[], Build]


def musl(ziglang: str) -> Build:
    """The C program, static, with the musl that the release ``ziglang`` of zig brings."""

    def make(directory: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="interlock-clients-") as scratch:
            wheel = _install(f"ziglang=={ziglang}", Path(scratch, "wheel")) / "ziglang"
            version = (wheel / "lib/libc/musl/src/internal/version.h").read_text()
            (directory / "version").write_text(re.findall(r'"(.+)"', version)[0])
            caches = {f"ZIG_{kind}_CACHE_DIR": f"{scratch}/cache" for kind in ("GLOBAL", "LOCAL")}
            target = ["-target", "x86_64-linux-musl", "-static"]
            _run([wheel / "zig", "cc", *target, "-o", directory / "lookup", LOOKUP], caches)

    made = _cached(f"musl-zig-{ziglang}", [LOOKUP], make)
    return Build((str(made / "lookup"),), (made / "version").read_text())


def musl_of_debian(source: Path = LOOKUP) -> Build:
    """The same, or another C program, with Debian's musl."""
    return _compile("musl-debian", source, ["musl-gcc", "-static"], "musl-tools", _debian_version("musl"))


def glibc(options: str = "", source: Path = LOOKUP) -> Build:
    """The C program with the machine's C library; ``options`` are resolv.conf's."""
    version = os.confstr("CS_GNU_LIBC_VERSION") or "not glibc"
    libraries = ("-lpthread", "-lresolv")
    build = _compile("glibc", source, ["cc", "-O1"], "gcc and libc6-dev", version.removeprefix("glibc "), libraries)
    return Build(build.command, build.version, {"RES_OPTIONS": options} if options else {})


def cares() -> Build:
    """c-ares as Debian has it."""
    if not Path("/usr/include/ares.h").exists():
        raise Unavailable("no ares.h: install libc-ares-dev")
    return _compile("c-ares", PROGRAMS / "cares.c", ["cc", "-O1"], "gcc", _debian_version("libc-ares2"), ("-lcares",))


def pycares() -> Build:
    """c-ares as pycares brings it."""

    def make(directory: Path) -> None:
        _install("pycares", directory / "wheel")

    made = _cached("pycares", [], make)
    environ = {"PYTHONPATH": f"{PROGRAMS.parents[2]}:{made / 'wheel'}"}
    command = (sys.executable, "-m", "tests.clients.programs.with_pycares")
    return Build(command, _output([*command, "--version"], environ).strip(), environ)


def go() -> Build:
    """Go's own resolver."""
    version = _output([_found("go", "golang-go"), "version"]).split()[2].removeprefix("go")
    source = PROGRAMS / "lookup.go"

    def make(directory: Path) -> None:
        environ = {"CGO_ENABLED": "0", "GOCACHE": str(directory / "cache"), "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
        _run(["go", "build", "-o", directory / "lookup", source], environ)
        shutil.rmtree(directory / "cache", ignore_errors=True)

    return Build((str(_cached(f"go-{version}", [source], make) / "lookup"),), version)


def node(api: str) -> Build:
    """Node's ``dns.lookup`` or ``dns.resolve*``, as ``api`` says."""
    command = _found("node", "nodejs")
    version = _output([command, "-p", "process.versions.node + ' ' + process.versions.ares"]).split()
    text = version[0] if api == "lookup" else f"{version[0]}, c-ares {version[1]}"
    # As many at once as are asked; four threads are Node's default for the C library's look-ups.
    return Build((command, str(PROGRAMS / "lookup.mjs"), api), text)


def java() -> Build:
    """Java's InetAddress and JNDI."""
    made = _cached("java", [PROGRAMS / "Lookup.java"], lambda directory: _javac(directory, "Lookup.java", ""))
    return Build((_found("java", "default-jre-headless"), "-cp", str(made), "Lookup"), _java_version())


def netty() -> Build:
    """netty's DnsNameResolver."""
    jars = sorted(path for path in _JAVA.glob("netty-*.jar") if re.fullmatch(r"netty(-[a-z]+)+\.jar", path.name))
    jars = [path for path in jars if path.name != "netty-all.jar"]
    if not jars:
        raise Unavailable("no netty: install libnetty-java")
    classpath = ":".join(map(str, jars))
    source = "NettyLookup.java"
    made = _cached("netty", [PROGRAMS / source], lambda directory: _javac(directory, source, classpath))
    version = _debian_version("libnetty-java")
    return Build((_found("java", "default-jre-headless"), "-cp", f"{made}:{classpath}", "NettyLookup"), version)


def python(program: str, version: str, *needed: tuple[str, str], arguments: tuple[str, ...] = ()) -> Build:
    """A program in Python; ``needed`` are commands and the packages that have them."""
    for command, package in needed:
        _found(command, package)
    return Build((sys.executable, "-m", f"tests.clients.programs.{program}", *arguments), version)


def tool(command: str, package: str, argument: str = "") -> Build:
    """A command, run anew for each look-up."""
    return python("with_tool", _debian_version(package), (command, package), arguments=(argument or command,))


def nginx() -> Build:
    """nginx as a proxy that looks up its upstream."""
    return python("with_nginx", _debian_version("nginx-light"), ("nginx", "nginx-light"))


def resolved() -> Build:
    """systemd-resolved before the C library."""
    made = unpacked("systemd-resolved")
    daemon, version = made / "lib/systemd/systemd-resolved", (made / "version").read_text()
    if "not found" in _output(["ldd", daemon]):
        raise Unavailable(f"systemd-resolved {version} does not fit the systemd that is installed")
    arguments = (str(daemon), glibc().command[0])
    return python("with_resolved", version.partition("-")[0], arguments=arguments)


def unpacked(package: str) -> Path:
    """The files of a Debian package and its ``version``. Unpacked, not installed: it would take over resolv.conf."""

    def make(directory: Path) -> None:
        _found("apt-get", "apt")
        with tempfile.TemporaryDirectory(prefix="interlock-clients-") as scratch:
            _run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package], cwd=scratch)
            archive = next(Path(scratch).glob("*.deb"))
            _run(["dpkg-deb", "--extract", archive, directory])
            (directory / "version").write_text(archive.name.split("_")[1].replace("%3a", ":"))

    return _cached(package, [], make)


def _compile(
    name: str, source: Path, compiler: list[str], package: str, version: str, libraries: tuple[str, ...] = ()
) -> Build:
    _found(compiler[0], package)
    made = _cached(
        f"{source.stem}-{name}-{version}",
        [source],
        lambda directory: _run([*compiler, "-o", directory / source.stem, source, *libraries]),
    )
    return Build((str(made / source.stem),), version)


def _javac(directory: Path, source: str, classpath: str) -> None:
    options = ["-cp", classpath] if classpath else []
    _run([_found("javac", "default-jdk-headless"), "-nowarn", *options, "-d", directory, PROGRAMS / source])


def _java_version() -> str:
    found = re.search(r'"(.+?)"', _output([_found("java", "default-jre-headless"), "-version"]))
    return found[1] if found else ""


def _cached(name: str, sources: list[Path], make: Callable[[Path], None]) -> Path:
    """The directory that ``make`` filled for these ``sources``; made when it is first wanted, by one at a time."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    directory = CACHE / f"{name}-{digest}"
    with _locked(name):
        if not directory.exists():
            for old in CACHE.glob(f"{name}-*"):
                if re.fullmatch(re.escape(name) + "-[0-9a-f]{12}", old.name):
                    shutil.rmtree(old)
            partial = CACHE / f".{directory.name}.part"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.rename(directory)
    return directory


@contextmanager
def _locked(name: str) -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(requirement: str, target: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    _run([*pip, "--target", target, requirement])
    return target


def _run(command: list[str | Path], environ: Mapping[str, str] | None = None, cwd: str | None = None) -> None:
    environ = {**os.environ, **(environ or {})}
    try:
        result = subprocess.run(
            command,
            env=environ,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=_BUILD_DEADLINE,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{Path(command[0]).name}: {error}") from error
    if result.returncode:
        lines = (result.stderr.strip() or result.stdout.strip() or "failed").splitlines()
        complaints = [line for line in lines if "error" in line.lower()] or lines[-1:]
        raise Unavailable(f"{Path(command[0]).name}: {complaints[0]}")


def _output(command: list[str | Path], environ: Mapping[str, str] | None = None) -> str:
    result = subprocess.run(command, env={**os.environ, **(environ or {})}, capture_output=True, text=True, timeout=60)
    return result.stdout + result.stderr


def _found(command: str, package: str) -> str:
    path = shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise Unavailable(f"no {command}: install {package}")
    return path


def _debian_version(package: str) -> str:
    """The upstream version of an installed package; empty where there is none."""
    result = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    return re.sub(r"^\d+:|[-+~].*$", "", result.stdout) if result.returncode == 0 else ""
