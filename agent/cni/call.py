"""One call of the CNI plugin by a runtime: its environment variables and the network's configuration, read and checked.

A fault in them is raised as a `CniError` that names the variable or the key. Standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")  # of the specification, ascending
COMMAND_SINCE = {  # the version that added the command; a command that is not here is in all versions
    "CHECK": "0.4.0",
    "GC": "1.1.0",
    "STATUS": "1.1.0",
}
AGENT_DIRECTORY = "/run/interlock"
INSTANCE_NAMES = ("environment", "service", "instance")  # together they name one workload

POD_ANNOTATIONS = (
    "io.kubernetes.cri.pod-annotations"  # the capability by which containerd and CRI-O pass annotations on
)
ID_DIGITS = 12  # of a container's id, for an instance's: as many as runtimes show; 48 bits

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")  # of a network, or of a container
_PATH = re.compile(r"/[^\0]*")
_INTERFACE = re.compile(r"(?!\.{1,2}$)[^/:\s\0]{1,15}")  # IFNAMSIZ, and no name that Linux refuses
# A container's id as runtimes generate it. nerdctl puts its namespace and a dash before it.
_GENERATED_ID = re.compile(r"(?:.*-)?([0-9a-f]{64})")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

Json = dict[str, Any]
T = TypeVar("T", str, bool, list, dict)  # type: ignore[type-arg]


class ErrorCode(IntEnum):
    """The number of an error in the result: below 100 the specification's, from 100 on the plugin's own."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_VARIABLE = 4
    UNREADABLE_INPUT = 5
    NOT_JSON = 6
    INVALID_CONFIGURATION = 7
    TRY_AGAIN_LATER = 11
    UNAVAILABLE = 50
    LIMITED_CONNECTIVITY = 51
    REFUSED = 100
    MISSING = 101
    FAILED = 102


class CniError(Exception):
    """The command fails with ``code``; the text says why and what to do."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Call:
    """The variables and the configuration of one call. Each is checked when it is first used, for no command uses all.

    All properties and methods raise `CniError`.
    """

    def __init__(self, environ: Mapping[str, str], config: Json) -> None:
        self._environ = environ
        self.config = config

    @property
    def version(self) -> str:
        """The version of the specification that the result must keep to."""
        return str(self.config["cniVersion"])

    @property
    def network(self) -> str:
        """The network's name."""
        name = self._option("name", str)
        if name is None or not _NAME.fullmatch(name):
            raise CniError(
                ErrorCode.INVALID_CONFIGURATION, f"name is {name!r}: give the network a name of letters, digits, _ . -"
            )
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
        """The name of the interface to make: ``interface`` of the configuration, else the runtime's choice."""
        own = self._option("interface", str)
        return self._interface if own is None else own

    @property
    def attachment(self) -> str:
        """The name of this attachment at the agent."""
        return attachment_name(self.network, self.container, self._interface)

    @property
    def directory(self) -> Path:
        """The directory of the agent's sockets."""
        return Path(self._option("agentDir", str) or AGENT_DIRECTORY)

    @property
    def previous(self) -> Json:
        """The result of the plugins before this one; empty if there are none."""
        previous: Json = self._option("prevResult", dict) or {}
        for part in ("interfaces", "ips", "routes"):
            found = previous.get(part, [])
            if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
                raise CniError(ErrorCode.INVALID_CONFIGURATION, f"{part} of prevResult is not a list of objects")
        return previous

    @property
    def workload(self) -> Json:
        """The workload as the agent's requests describe it."""
        for field in ("ipam", "ipMasq"):
            if self.config.get(field):
                raise CniError(
                    ErrorCode.UNSUPPORTED_FIELD,
                    f"{field} is {json.dumps(self.config[field])}: leave it out, addresses are the agent's",
                )
        return {
            **self._names(),
            "netns": self.netns,
            "interface": self.interface,
            "container": self.attachment,
            "region": self._option("region", str),
            "build": self._option("build", bool) or False,
        }

    def valid_attachments(self) -> list[str]:
        """The attachments that the runtime still knows, by their names at the agent."""
        listed = self._option("cni.dev/valid-attachments", list)
        if listed is None:
            raise CniError(
                ErrorCode.INVALID_CONFIGURATION, "cni.dev/valid-attachments is not there: GC would remove everything"
            )
        try:
            return [attachment_name(self.network, str(one["containerID"]), str(one["ifname"])) for one in listed]
        except (KeyError, TypeError):
            raise CniError(
                ErrorCode.INVALID_CONFIGURATION, "cni.dev/valid-attachments is not a list of containerID and ifname"
            ) from None

    @property
    def _interface(self) -> str:
        return self._variable("CNI_IFNAME", _INTERFACE)

    def _names(self) -> dict[str, str]:
        names = {}
        for name in INSTANCE_NAMES:
            given = self._given(name) or self._derived(name)
            if not given:
                raise CniError(
                    ErrorCode.INVALID_CONFIGURATION,
                    f"which {name}? give {name!r} in the configuration, or INTERLOCK_{name.upper()} in CNI_ARGS",
                )
            # A user who may start containers must not override what the host's administrator has configured.
            (source, value), *others = given
            for other_source, other in others:
                if other != value:
                    raise CniError(
                        ErrorCode.INVALID_CONFIGURATION,
                        f"{name} is {value!r} by {source}, but {other!r} by {other_source}",
                    )
            names[name] = value
        return names

    def _given(self, name: str) -> list[tuple[str, str]]:
        """Where ``name`` is given and as what, by descending precedence."""
        labels = _labels(_within(self._option("args", dict), "cni", "labels"))
        given = {
            "the network's configuration": self._option(name, str),
            "CNI_ARGS": self._arguments().get(f"INTERLOCK_{name.upper()}"),
            "a label": labels.get(f"interlock.{name}"),
            "an annotation": _within(self._option("runtimeConfig", dict), POD_ANNOTATIONS, f"interlock.{name}"),
        }
        return [(source, str(value)) for source, value in given.items() if value is not None]

    def _derived(self, name: str) -> list[tuple[str, str]]:
        """What ``name`` is if it is not given: the instance by the container's id, the service by the first alias."""
        if name == "instance":
            return [("CNI_CONTAINERID", instance_of(self.container))]
        aliases = _within(self._option("runtimeConfig", dict), "aliases", self.network)
        # podman's --network-alias. podman adds the container's own id behind the aliases that the user gave.
        if name == "service" and isinstance(aliases, list) and aliases[:1] != [self.container[:ID_DIGITS]]:
            return [("an alias", str(alias)) for alias in aliases[:1]]
        return []

    def _arguments(self) -> dict[str, str]:
        """The pairs in CNI_ARGS, which look like ``INTERLOCK_SERVICE=api;IgnoreUnknown=1``."""
        arguments = {}
        for pair in filter(None, self._environ.get("CNI_ARGS", "").split(";")):
            key, equals, value = pair.partition("=")
            if not equals:
                raise CniError(ErrorCode.INVALID_VARIABLE, f"CNI_ARGS has {pair!r}, which is not KEY=VALUE")
            arguments[key] = value
        known = {"IgnoreUnknown", *(f"INTERLOCK_{name.upper()}" for name in INSTANCE_NAMES)}
        unknown = sorted(arguments.keys() - known)
        if unknown and arguments.get("IgnoreUnknown", "").lower() not in ("1", "true"):
            raise CniError(
                ErrorCode.INVALID_VARIABLE,
                f"CNI_ARGS has {', '.join(unknown)}: not known here, and IgnoreUnknown=1 is not given",
            )
        return arguments

    def _variable(self, name: str, pattern: re.Pattern[str]) -> str:
        value = self._environ.get(name, "")
        if not pattern.fullmatch(value):
            raise CniError(ErrorCode.INVALID_VARIABLE, f"{name} is {value!r}" if value else f"{name} is not set")
        return value

    def _option(self, name: str, kind: type[T]) -> T | None:
        value = self.config.get(name)
        if value is not None and not isinstance(value, kind):
            raise CniError(
                ErrorCode.INVALID_CONFIGURATION, f"{name} is {json.dumps(value)}: that is not a {_KIND_NAMES[kind]}"
            )
        return value


def read_config(stdin: BinaryIO | None) -> Json:
    """The network's configuration, read from ``stdin``, which is None if it is closed."""
    try:
        if stdin is None:
            raise OSError("it is closed")
        text = stdin.read()
    except OSError as error:
        raise CniError(
            ErrorCode.UNREADABLE_INPUT, f"the configuration cannot be read from standard input: {error}"
        ) from None
    try:
        config = json.loads(text)
    except ValueError as error:
        raise CniError(ErrorCode.NOT_JSON, f"the configuration is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise CniError(ErrorCode.NOT_JSON, "the configuration is not a JSON object")
    return config


def check_version(config: Json, command: str) -> str:
    """The version of the specification that ``config`` asks for, which must have ``command``."""
    version = config.get("cniVersion")
    if version not in VERSIONS:
        raise CniError(ErrorCode.INCOMPATIBLE_VERSION, f"cniVersion is {version!r}: give one of {', '.join(VERSIONS)}")
    if is_before(version, COMMAND_SINCE.get(command, VERSIONS[0])):
        raise CniError(
            ErrorCode.INCOMPATIBLE_VERSION,
            f"{command} is not part of version {version}: give {COMMAND_SINCE[command]} or later",
        )
    return str(version)


def is_before(version: str, other: str) -> bool:
    """Whether ``version`` of the specification is older than ``other``."""
    return VERSIONS.index(version) < VERSIONS.index(other)


def attachment_name(network: str, container: str, interface: str) -> str:
    """The name of an attachment at the agent: the key that the specification tells plugins to use."""
    return f"{network}/{container}/{interface}"


def instance_of(container: str) -> str:
    """The instance's id for a ``container`` to which none was given."""
    if generated := _GENERATED_ID.fullmatch(container):
        return generated[1][:ID_DIGITS]
    if not _LABEL.fullmatch(container):
        raise CniError(
            ErrorCode.INVALID_CONFIGURATION,
            f"{container} cannot be an instance's id: give INTERLOCK_INSTANCE in CNI_ARGS",
        )
    return container


def _within(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _labels(listed: Any) -> dict[str, str]:
    """Labels as the CNI conventions put them into ``args``: a list of objects with key and value."""
    pairs = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return {str(one.get("key")): str(one.get("value")) for one in pairs}


_KIND_NAMES: dict[type, str] = {str: "string", bool: "boolean", list: "list", dict: "object"}
