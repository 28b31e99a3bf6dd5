"""The CNI plugin ``interlock-cni``, by which a container runtime attaches its containers. Standard library only.

    runtime ── CNI_… variables, the network's configuration ──► interlock-cni ── a request ──► agent of this host
            ◄────────────── a result, or an error ────────────               ◄── an answer ──

The plugin has no state of its own. The agent keeps each attachment under a name made of the specification's own key:
network, container, interface. So a runtime may send each command twice, and DEL needs nothing that only ADD knew.

Source: the CNI specification 1.1.0, https://www.cni.dev/docs/spec/; docs/containers.md sets up runtimes for it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import BinaryIO

from agent.cni.call import VERSIONS, Call, CniError, ErrorCode, Json, check_version, is_before, read_config
from agent.control.client import NoAgent, Refusal, ask, ask_until_ready

STATUS_DEADLINE = 2.0  # seconds for the agent's answer; runtimes ask for STATUS every few seconds

CODES = {  # by the kind of the agent's error
    "invalid": ErrorCode.INVALID_CONFIGURATION,
    "refused": ErrorCode.REFUSED,
    "missing": ErrorCode.MISSING,
    "unavailable": ErrorCode.TRY_AGAIN_LATER,
}


def main() -> None:
    """The program."""
    status, text = run(os.environ, sys.stdin.buffer if sys.stdin else None)
    sys.stdout.write(text)
    sys.exit(status)


def run(environ: Mapping[str, str], stdin: BinaryIO | None) -> tuple[int, str]:
    """Runs the runtime's command; gives the exit status and the output. ``stdin`` is None if it is closed."""
    version = VERSIONS[-1]
    try:
        command = environ.get("CNI_COMMAND", "")
        if command not in COMMANDS:
            # Before standard input is read: for a user who runs this by hand, that would seem to hang.
            raise CniError(ErrorCode.INVALID_VARIABLE, f"CNI_COMMAND is {command!r}, not one of {', '.join(COMMANDS)}")
        config = read_config(stdin)
        if command != "VERSION":
            version = check_version(config, command)
        result = COMMANDS[command](Call(environ, config))
    except CniError as error:
        return 1, json.dumps({"cniVersion": version, "code": error.code, "msg": str(error)}) + "\n"
    return 0, json.dumps(result) + "\n" if result else ""


# The commands


def add(call: Call) -> Json:
    """ADD: attaches the container; gives the result."""
    request = call.workload
    previous = call.previous
    taken_interfaces = [one.get("name") for one in previous.get("interfaces", ()) if one.get("sandbox")]
    if call.interface in taken_interfaces:
        raise CniError(
            ErrorCode.INVALID_CONFIGURATION,
            f"an earlier plugin has made {call.interface}: give this one an 'interface' of its own, such as railnet0",
        )
    if not previous and "interface" in call.config:
        raise CniError(
            ErrorCode.INVALID_CONFIGURATION, "interface is for a plugin behind others: alone, the runtime names it"
        )
    return _result(call, previous, _ask(call, {"op": "attach", **request}))


def check(call: Call) -> None:
    """CHECK: returns if the container is attached as the result of its ADD says."""
    request = call.workload
    previous = call.previous
    if not previous:
        raise CniError(ErrorCode.INVALID_CONFIGURATION, "prevResult is not there: CHECK compares with it")
    try:
        actual = _result(call, {}, _ask(call, {"op": "check", **request}))
    except CniError as error:
        raise CniError(ErrorCode.UNKNOWN_CONTAINER, str(error)) if error.code is ErrorCode.MISSING else error from None
    for part, keys in (("interfaces", ("name", "mac", "sandbox")), ("ips", ("address",)), ("routes", ("dst",))):
        expected = [[one.get(key, "") for key in keys] for one in previous.get(part, ())]
        for one in actual[part]:
            if [one.get(key, "") for key in keys] not in expected:
                found = " ".join(str(one[key]) for key in keys if key in one)
                raise CniError(ErrorCode.FAILED, f"{found} is there, but not in {part} of prevResult: attach it again")


def delete(call: Call) -> None:
    """DEL: detaches the container, if it is attached; it ends, whether a control plane answers or not."""
    _ask(call, {"op": "detach", "container": call.attachment, "offline": True})


def collect(call: Call) -> None:
    """GC: detaches the network's containers that the runtime does not know any more."""
    _ask(call, {"op": "gc", "within": f"{call.network}/", "keep": call.valid_attachments()})


def status(call: Call) -> None:
    """STATUS: returns if containers can be attached."""
    try:
        answer = ask(call.directory, {"op": "status"}, STATUS_DEADLINE)
    except (NoAgent, Refusal) as error:
        # Not LIMITED_CONNECTIVITY: what is attached works on without the agent.
        raise CniError(ErrorCode.UNAVAILABLE, str(error)) from None
    if not answer["ready"]:
        raise CniError(ErrorCode.LIMITED_CONNECTIVITY if answer["limited"] else ErrorCode.UNAVAILABLE, answer["reason"])


def versions(call: Call) -> Json:
    """VERSION: gives the versions of the specification that the plugin supports."""
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
    """The result: ``previous`` and the agent's ``answer``. It has one nameserver; docs/resolv-conf.md says why."""
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
    """The agent's answer, also if the agent is being restarted. All of the plugin's requests may reach it twice."""
    try:
        return ask_until_ready(call.directory, request)
    except NoAgent as error:
        raise CniError(ErrorCode.TRY_AGAIN_LATER, str(error)) from None
    except Refusal as refusal:
        raise CniError(CODES.get(refusal.kind, ErrorCode.FAILED), str(refusal)) from None
