"""Look-ups through a command: ``python -m tests.clients.programs.with_tool dig|kdig|drill|unbound-host|nslookup|wget``.

The time is that of the whole command. Its answers are read from what it prints for people.
"""

from __future__ import annotations

import ipaddress
import re
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from tests.clients.programs import webserver
from tests.clients.programs.answers import Failed, Look, NoSuchLookup, NotThere, serve

_FAMILIES = {"any": ("A", "AAAA"), "4": ("A",), "6": ("AAAA",)}
_STATUS = re.compile(r"(?:status|rcode): (\w+)")
_ANSWERS = re.compile(r"ANSWER: (\d+)")
_ATTEMPTED = 20.0  # seconds


def _run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=_ATTEMPTED)
    return result.stdout + result.stderr


def _reverse(address: str) -> str:
    return ipaddress.ip_address(address).reverse_pointer


class DigLike:
    """dig, kdig and drill: the whole message in words, on request for any type; one question a run."""

    def __init__(self, command: str) -> None:
        self._command = command

    def look(self, request: list[str]) -> Iterable[str]:
        match request:
            case ["ptr", address]:
                return self._ask(_reverse(address), "PTR")
            case ["type", number, name]:
                return [str(len(self._ask(name, "ANY" if number == "255" else f"TYPE{number}")))]
            case ["many", count, suffix]:
                names = [f"m{number}.{suffix}" for number in range(int(count))]
                with ThreadPoolExecutor(len(names)) as threads:
                    return [str(sum(1 for found in threads.map(lambda name: self._ask(name, "AAAA"), names) if found))]
            case [family, name]:
                return self._addresses(family, name)
        raise AssertionError(request)

    def _addresses(self, family: str, name: str) -> list[str]:
        found: list[str] = []
        for rtype in _FAMILIES[family]:
            try:
                found += self._ask(name, rtype)
            except NotThere as error:
                if str(error) == "NXDOMAIN":
                    raise
        if not found:
            raise NotThere("NODATA")
        return found

    def _ask(self, name: str, rtype: str) -> list[str]:
        options = {"dig": ["+search", "-t", rtype, "-q", name], "kdig": ["-t", rtype, "-q", name]}
        text = _run(self._command, *options.get(self._command, [name, rtype]))
        status = _STATUS.search(text)
        if not status or status[1] not in ("NOERROR", "NXDOMAIN"):
            raise Failed(status[1] if status else text.strip().splitlines()[-1] if text.strip() else "nothing")
        if status[1] == "NXDOMAIN":
            raise NotThere("NXDOMAIN")
        found = list(_section(text, rtype))
        if not found:
            raise NotThere("NODATA")
        return found


def _section(text: str, rtype: str) -> Iterable[str]:
    """The data of the answer section's records of ``rtype``; of all for ANY and for types without a name."""
    lines = iter(text.splitlines())
    for line in lines:
        if "ANSWER SECTION" in line:
            break
    for line in lines:
        if not line.strip() or line.startswith(";"):
            break
        fields = line.split()
        if len(fields) >= 5 and (fields[3] == rtype or rtype == "ANY" or rtype.startswith("TYPE")):
            yield fields[4].rstrip(".")


class UnboundHost:
    """unbound-host: libunbound as a stub of what resolv.conf names."""

    def look(self, request: list[str]) -> Iterable[str]:
        match request:
            case ["type", number, name]:
                rtype = "ANY" if number == "255" else f"TYPE{number}"
                return [str(len(self._ask(name, rtype, r"(?: has |\sIN\s+[A-Z]+\s+[0-9a-f])(?!no )(.+)$")))]
            case [("any" | "4" | "6") as family, name]:
                return self._addresses(family, name)
        raise NoSuchLookup

    def _addresses(self, family: str, name: str) -> list[str]:
        found: list[str] = []
        for rtype in _FAMILIES[family]:
            try:
                found += self._ask(name, rtype, r"has (?:IPv6 )?address (\S+)")
            except NotThere as error:
                if str(error) == "NXDOMAIN":
                    raise
        if not found:
            raise NotThere("NODATA")
        return found

    def _ask(self, name: str, rtype: str, pattern: str) -> list[str]:
        text = _run("unbound-host", "-v", "-r", "-t", rtype, name)
        if "NXDOMAIN" in text:
            raise NotThere("NXDOMAIN")
        if "SERVFAIL" in text or "REFUSED" in text or not text.strip():
            raise Failed(text.strip().replace("\n", " ") or "nothing")
        if found := re.findall(pattern, text, re.MULTILINE):
            return found
        raise NotThere("NODATA")


class BusyboxNslookup:
    """busybox nslookup, which writes and reads its own messages."""

    def look(self, request: list[str]) -> Iterable[str]:
        match request:
            case ["ptr", address]:
                return self._ask(r"name = (\S+)", address)
            case ["type", number, name] if number in ("16", "255"):
                return [
                    str(
                        len(self._ask(r"(text = .*|^Address: .*)", f"-type={'txt' if number == '16' else 'any'}", name))
                    )
                ]
            case ["any", name]:
                return self._ask(r"^Address: (\S+)$", name)
            case ["4" | "6" as family, name]:
                return self._ask(r"^Address: (\S+)$", f"-type={'a' if family == '4' else 'aaaa'}", name)
        raise NoSuchLookup

    def _ask(self, pattern: str, *arguments: str) -> list[str]:
        text = _run("busybox", "nslookup", *arguments)
        answer = text.partition("\n\n")[2]  # the first paragraph is the server
        if "timed out" in text or "SERVFAIL" in text or "REFUSED" in text or "Parse error" in text:
            raise Failed(text.strip().splitlines()[-1])
        found = re.findall(pattern, answer, re.MULTILINE)
        if not found:
            raise NotThere("NXDOMAIN" if "NXDOMAIN" in text else "NODATA")
        return found


class BusyboxWget:
    """busybox wget: connects to what it finds, and a server there says which address that was."""

    def look(self, request: list[str]) -> Iterable[str]:
        match request:
            case ["any", name]:
                # Not with -T: Debian's static busybox 1.35 ends in a segmentation fault then.
                result = subprocess.run(
                    ["busybox", "wget", "-O", "-", f"http://{name}:{webserver.PORT}/"],
                    capture_output=True,
                    text=True,
                    timeout=_ATTEMPTED,
                )
                if result.returncode == 0:
                    return [result.stdout.strip()]
                if "bad address" in result.stderr:
                    raise NotThere("bad address")
                raise Failed(result.stderr.strip() or f"exit {result.returncode}")
        raise NoSuchLookup


_TOOLS: dict[str, Look] = {
    **{command: DigLike(command).look for command in ("dig", "kdig", "drill")},
    "unbound-host": UnboundHost().look,
    "nslookup": BusyboxNslookup().look,
    "wget": BusyboxWget().look,
}

if __name__ == "__main__":
    if sys.argv[1] == "wget":
        webserver.start()
    serve(_TOOLS[sys.argv[1]])
