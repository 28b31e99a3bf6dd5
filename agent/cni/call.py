"""What a runtime tells the CNI plugin: its variables and the network's configuration, read and checked.

Whatever is wrong with it is a `CniError` that names the variable or the key. Standard library alone, as `cni` is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")  # of the specification, ascending
SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
AGENT_DIRECTORY = "/run/interlock"
NAMES = ("environment", "service", "instance")

POD_ANNOTATIONS = "io.kubernetes.cri.pod-annotations"  # the capability by which containerd and CRI-O pass them on
ID_DIGITS = 12  # of a container's id: as many as runtimes show; 48 bits

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")  # of a network, or of a container
_PATH = re.compile(r"/[^\0]*")
_INTERFACE = re.compile(r"(?!\.{1,2}$)[^/:\s\0]{1,15}")  # IFNAMSIZ, and what the kernel refuses in it
# A container's id as runtimes make it. nerdctl puts its namespace and a dash before it.
_MADE_ID = re.compile(r"(?:.*-)?([0-9a-f]{64})")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

Json = dict[str, Any]
T = TypeVar("T", str, bool, list, dict)  # type: ignore[type-arg]


class Code(IntEnum):
    """What kind of error it is: the specification's numbers, and from 100 on our own."""

    VERSION = 1
    FIELD = 2
    CONTAINER = 3
    VARIABLE = 4
    INPUT = 5
    DECODING = 6
    CONFIGURATION = 7
    LATER = 11
    UNAVAILABLE = 50
    LIMITED = 51
    REFUSED = 100
    MISSING = 101
    FAILED = 102


class CniError(Exception):
    """The command fails, with ``code``."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class Call:
    """One call by a runtime: its variables and its configuration, each checked as it is asked for."""

    def __init__(self, environ: Mapping[str, str], config: Json) -> None:
        self._environ = environ
        self.config = config

    @property
    def version(self) -> str:
        """The specification's, which the result is to keep to."""
        return str(self.config["cniVersion"])

    @property
    def network(self) -> str:
        """The network's name."""
        name = self._option("name", str)
        if name is None or not _NAME.fullmatch(name):
            raise CniError(Code.CONFIGURATION, f"name is {name!r}: give the network a name of letters, digits, _ . -")
        return name

    @property
    def container(self) -> str:
        """The container's id."""
        return self._variable("CNI_CONTAINERID", _NAME)

    @property
    def netns(self) -> str:
        """The path of the container's network namespace."""
        return self._variable("CNI_NETNS", _PATH)

    @property
    def interface(self) -> str:
        """The name of the interface that is to be made: the runtime's, or behind other plugins our own."""
        own = self._option("interface", str)
        return self._interface if own is None else own

    @property
    def attachment(self) -> str:
        """What the agent is to call this attachment."""
        return attachment_name(self.network, self.container, self._interface)

    @property
    def directory(self) -> Path:
        """Where the agent has its sockets."""
        return Path(self._option("agentDir", str) or AGENT_DIRECTORY)

    @property
    def previous(self) -> Json:
        """The result so far; empty where there is none."""
        previous: Json = self._option("prevResult", dict) or {}
        for part in ("interfaces", "ips", "routes"):
            found = previous.get(part, [])
            if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
                raise CniError(Code.CONFIGURATION, f"{part} of prevResult is not a list of objects")
        return previous

    @property
    def workload(self) -> Json:
        """The agent's request, but for what is asked for. Raises `CniError` where nobody says which instance it is."""
        for field in ("ipam", "ipMasq"):
            if self.config.get(field):
                raise CniError(
                    Code.FIELD, f"{field} is {json.dumps(self.config[field])}: leave it out, addresses are the agent's"
                )
        return {
            **self._names(),
            "netns": self.netns,
            "interface": self.interface,
            "container": self.attachment,
            "region": self._option("region", str),
            "build": self._option("build", bool) or False,
        }

    def kept(self) -> list[str]:
        """The attachments that the runtime knows of, as the agent calls them."""
        listed = self._option("cni.dev/valid-attachments", list)
        if listed is None:
            raise CniError(Code.CONFIGURATION, "cni.dev/valid-attachments is not there: GC would remove everything")
        try:
            return [attachment_name(self.network, str(one["containerID"]), str(one["ifname"])) for one in listed]
        except (KeyError, TypeError):
            raise CniError(
                Code.CONFIGURATION, "cni.dev/valid-attachments is not a list of containerID and ifname"
            ) from None

    @property
    def _interface(self) -> str:
        return self._variable("CNI_IFNAME", _INTERFACE)

    def _names(self) -> dict[str, str]:
        names = {}
        for name in NAMES:
            told = self._told(name) or self._guessed(name)
            if not told:
                raise CniError(
                    Code.CONFIGURATION,
                    f"which {name}? give {name!r} in the configuration, or INTERLOCK_{name.upper()} in CNI_ARGS",
                )
            # Whoever starts a container must not choose what whoever keeps the host has fixed.
            (place, value), *others = told
            for other, contrary in others:
                if contrary != value:
                    raise CniError(Code.CONFIGURATION, f"{name} is {value!r} by {place}, but {contrary!r} by {other}")
            names[name] = value
        return names

    def _told(self, name: str) -> list[tuple[str, str]]:
        """What is said of ``name``, and by whom: the strongest first."""
        labels = _labels(_within(self._option("args", dict), "cni", "labels"))
        told = {
            "the network's configuration": self._option(name, str),
            "CNI_ARGS": self._arguments().get(f"INTERLOCK_{name.upper()}"),
            "a label": labels.get(f"interlock.{name}"),
            "an annotation": _within(self._option("runtimeConfig", dict), POD_ANNOTATIONS, f"interlock.{name}"),
        }
        return [(place, str(value)) for place, value in told.items() if value is not None]

    def _guessed(self, name: str) -> list[tuple[str, str]]:
        """What ``name`` is where nobody says so."""
        if name == "instance":
            return [("CNI_CONTAINERID", instance_of(self.container))]
        aliases = _within(self._option("runtimeConfig", dict), "aliases", self.network)
        # podman's --network-alias; behind those that it was given it puts the container's own id.
        if name == "service" and isinstance(aliases, list) and aliases[:1] != [self.container[:ID_DIGITS]]:
            return [("an alias", str(alias)) for alias in aliases[:1]]
        return []

    def _arguments(self) -> dict[str, str]:
        """CNI_ARGS: pairs, as in ``INTERLOCK_SERVICE=api;IgnoreUnknown=1``."""
        arguments = {}
        for pair in filter(None, self._environ.get("CNI_ARGS", "").split(";")):
            key, equals, value = pair.partition("=")
            if not equals:
                raise CniError(Code.VARIABLE, f"CNI_ARGS has {pair!r}, which is not KEY=VALUE")
            arguments[key] = value
        ours = {"IgnoreUnknown", *(f"INTERLOCK_{name.upper()}" for name in NAMES)}
        unknown = sorted(arguments.keys() - ours)
        if unknown and arguments.get("IgnoreUnknown", "").lower() not in ("1", "true"):
            raise CniError(
                Code.VARIABLE, f"CNI_ARGS has {', '.join(unknown)}: not ours, and IgnoreUnknown=1 is not given"
            )
        return arguments

    def _variable(self, name: str, pattern: re.Pattern[str]) -> str:
        value = self._environ.get(name, "")
        if not pattern.fullmatch(value):
            raise CniError(Code.VARIABLE, f"{name} is {value!r}" if value else f"{name} is not set")
        return value

    def _option(self, name: str, kind: type[T]) -> T | None:
        value = self.config.get(name)
        if value is not None and not isinstance(value, kind):
            raise CniError(Code.CONFIGURATION, f"{name} is {json.dumps(value)}: that is not a {_KIND_NAMES[kind]}")
        return value


def read_config(stdin: BinaryIO | None) -> Json:
    """The network's configuration, as it comes in on standard input; None where that is closed."""
    try:
        if stdin is None:
            raise OSError("it is closed")
        text = stdin.read()
    except OSError as error:
        raise CniError(Code.INPUT, f"the configuration cannot be read from standard input: {error}") from None
    try:
        config = json.loads(text)
    except ValueError as error:
        raise CniError(Code.DECODING, f"the configuration is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise CniError(Code.DECODING, "the configuration is not a JSON object")
    return config


def check_version(config: Json, command: str) -> str:
    """The specification's version that ``config`` asks for, if it has ``command``."""
    version = config.get("cniVersion")
    if version not in VERSIONS:
        raise CniError(Code.VERSION, f"cniVersion is {version!r}: give one of {', '.join(VERSIONS)}")
    if is_before(version, SINCE.get(command, VERSIONS[0])):
        raise CniError(Code.VERSION, f"{command} is not part of version {version}: give {SINCE[command]} or later")
    return str(version)


def is_before(version: str, other: str) -> bool:
    """Whether ``version`` of the specification is older than ``other``."""
    return VERSIONS.index(version) < VERSIONS.index(other)


def attachment_name(network: str, container: str, interface: str) -> str:
    """What the agent is to call an attachment: the key that the specification tells plugins to use."""
    return f"{network}/{container}/{interface}"


def instance_of(container: str) -> str:
    """The instance's id of a container that nobody has given one."""
    if made := _MADE_ID.fullmatch(container):
        return made[1][:ID_DIGITS]
    if not _LABEL.fullmatch(container):
        raise CniError(
            Code.CONFIGURATION, f"{container} cannot be an instance's id: give INTERLOCK_INSTANCE in CNI_ARGS"
        )
    return container


def _within(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _labels(listed: Any) -> dict[str, str]:
    """Labels, as the conventions for ``args`` have them: a list of key and value."""
    pairs = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return {str(one.get("key")): str(one.get("value")) for one in pairs}


_KIND_NAMES: dict[type, str] = {str: "string", bool: "boolean", list: "list", dict: "object"}
