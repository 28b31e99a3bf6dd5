"""The CNI plugin ``interlock-cni``: how a container runtime attaches its containers. Standard library alone.

    runtime ── CNI_… variables, the network's configuration ──► interlock-cni ── a request ──► agent of this host
            ◄────────────── a result, or an error ────────────               ◄── an answer ──

It keeps nothing. The agent knows what is attached, by a name made of the specification's own key: the network, the
container, the interface. So each command may come twice, and DEL needs nothing that only ADD knew.

Source: the CNI specification 1.1.0, https://www.cni.dev/docs/spec/; docs/containers.md sets up runtimes for it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import BinaryIO

from agent.cni.call import VERSIONS, Call, CniError, Code, Json, check_version, is_before, read_config
from agent.control.client import NoAgent, Refusal, ask, ask_until_ready

STATUS_PATIENCE = 2.0  # seconds; runtimes ask every few

KINDS = {  # of the agent's errors
    "invalid": Code.CONFIGURATION,
    "refused": Code.REFUSED,
    "missing": Code.MISSING,
    "unavailable": Code.LATER,
}


def main() -> None:
    """The program."""
    status, text = run(os.environ, sys.stdin.buffer if sys.stdin else None)
    sys.stdout.write(text)
    sys.exit(status)


def run(environ: Mapping[str, str], stdin: BinaryIO | None) -> tuple[int, str]:
    """Does what the runtime asks for; gives the exit status, and what is to be printed. ``stdin`` is None if closed."""
    version = VERSIONS[-1]
    try:
        command = environ.get("CNI_COMMAND", "")
        if command not in COMMANDS:
            # Before anything is read: whoever runs this by hand should not wait for it.
            raise CniError(Code.VARIABLE, f"CNI_COMMAND is {command!r}, not one of {', '.join(COMMANDS)}")
        config = read_config(stdin)
        if command != "VERSION":
            version = check_version(config, command)
        result = COMMANDS[command](Call(environ, config))
    except CniError as error:
        return 1, json.dumps({"cniVersion": version, "code": error.code, "msg": str(error)}) + "\n"
    return 0, json.dumps(result) + "\n" if result else ""


# The commands


def add(call: Call) -> Json:
    """Attaches the container; gives the result."""
    request = call.workload
    previous = call.previous
    taken = [one.get("name") for one in previous.get("interfaces", ()) if one.get("sandbox")]
    if call.interface in taken:
        raise CniError(
            Code.CONFIGURATION,
            f"an earlier plugin has made {call.interface}: give this one an 'interface' of its own, such as railnet0",
        )
    if not previous and "interface" in call.config:
        raise CniError(Code.CONFIGURATION, "interface is for a plugin behind others: alone, the runtime names it")
    return _result(call, previous, _ask(call, {"op": "attach", **request}))


def check(call: Call) -> None:
    """Returns if the container is attached as the result of its ADD says."""
    request = call.workload
    previous = call.previous
    if not previous:
        raise CniError(Code.CONFIGURATION, "prevResult is not there: CHECK compares with it")
    try:
        actual = _result(call, {}, _ask(call, {"op": "check", **request}))
    except CniError as error:
        raise CniError(Code.CONTAINER, str(error)) if error.code is Code.MISSING else error from None
    for part, keys in (("interfaces", ("name", "mac", "sandbox")), ("ips", ("address",)), ("routes", ("dst",))):
        expected = [[one.get(key, "") for key in keys] for one in previous.get(part, ())]
        for one in actual[part]:
            if [one.get(key, "") for key in keys] not in expected:
                told = " ".join(str(one[key]) for key in keys if key in one)
                raise CniError(Code.FAILED, f"{told} is there, but not in {part} of prevResult: attach it again")


def delete(call: Call) -> None:
    """Detaches the container, if it is attached."""
    _ask(call, {"op": "detach", "container": call.attachment})


def collect(call: Call) -> None:
    """Detaches all of the network's containers that the runtime does not know any more."""
    _ask(call, {"op": "gc", "within": f"{call.network}/", "keep": call.kept()})


def status(call: Call) -> None:
    """Returns if containers can be attached."""
    try:
        told = ask(call.directory, {"op": "status"}, STATUS_PATIENCE)
    except (NoAgent, Refusal) as error:
        # What is attached goes on without the agent.
        raise CniError(Code.UNAVAILABLE, str(error)) from None
    if not told["ready"]:
        raise CniError(Code.LIMITED if told["limited"] else Code.UNAVAILABLE, told["reason"])


def versions(call: Call) -> Json:
    """The versions of the specification that are spoken here."""
    return {"cniVersion": call.config.get("cniVersion", VERSIONS[-1]), "supportedVersions": VERSIONS}


COMMANDS: dict[str, Callable[[Call], Json | None]] = {
    "ADD": add,
    "CHECK": check,
    "DEL": delete,
    "GC": collect,
    "STATUS": status,
    "VERSION": versions,
}


def _result(call: Call, previous: Json, answer: Json) -> Json:
    """``previous`` with what the agent's ``answer`` adds. There is one nameserver: docs/resolv-conf.md says why."""
    interfaces = [
        *previous.get("interfaces", ()),
        {"name": answer["host_interface"], "mac": answer["host_mac"]},
        {"name": answer["interface"], "mac": answer["mac"], "sandbox": call.netns},
    ]
    address = {"address": f"{answer['address']}/128", "gateway": answer["gateway"], "interface": len(interfaces) - 1}
    if is_before(call.version, "1.0.0"):
        address["version"] = "6"
    if not is_before(call.version, "1.1.0"):
        for one in interfaces[-2:]:
            one["mtu"] = answer["mtu"]
    return {
        "cniVersion": call.version,
        "interfaces": interfaces,
        "ips": [*previous.get("ips", ()), address],
        "routes": [*previous.get("routes", ()), {"dst": answer["prefix"], "gw": answer["gateway"]}],
        "dns": {"nameservers": [answer["nameserver"]], "search": [answer["search"]], "options": answer["options"]},
    }


def _ask(call: Call, request: Json) -> Json:
    """The agent's answer, waited for while it is away or loading; all that is asked for may come twice."""
    try:
        return ask_until_ready(call.directory, request)
    except NoAgent as error:
        raise CniError(Code.LATER, str(error)) from None
    except Refusal as refusal:
        raise CniError(KINDS.get(refusal.kind, Code.FAILED), str(refusal)) from None
