"""Services in workloads of a sandbox: a small web server in each, and a client that calls by name."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from interlock.errors import SandboxFailed
from interlock.sandbox.hosts import Workload
from interlock.sandbox.node import Node

PORT = 8080

# They know nothing of the product: a resolv.conf and a socket, as any program.
_SERVER = """
import http.server, socket, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = sys.argv[1].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6

server = Server(("::", int(sys.argv[2])), Handler)
print("ready", flush=True)
server.serve_forever()
"""
_CLIENT = """
import http.client, json, socket, sys, time

host, port, patience = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
began, address, text, error = time.monotonic(), None, None, None
try:
    address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]
    connection = http.client.HTTPConnection(address, port, timeout=patience)
    connection.request("GET", "/", headers={"Host": host})
    text = connection.getresponse().read().decode()
except OSError as failure:
    error = failure.strerror or str(failure)
taken = round((time.monotonic() - began) * 1000, 1)
print(json.dumps({"address": address, "text": text, "error": error, "milliseconds": taken}))
"""


@dataclass(frozen=True, slots=True)
class Call:
    """How one request over HTTP went."""

    address: str | None
    """The address that the name was resolved to; None where it was not."""
    text: str | None
    """What was answered; None where nothing was."""
    error: str | None
    """Why nothing was, as the system says it; None where something was."""
    milliseconds: float
    """From the look-up to the answer, or to the error."""


@dataclass(frozen=True, slots=True)
class Member:
    """An instance of a service, attached on a host, with a web server in it."""

    environment: str
    """The environment that it belongs to."""
    service: str
    """Its service."""
    instance: str
    """Its id."""
    node: Node
    """The host that it is on."""
    workload: Workload
    """Its network namespace."""

    @classmethod
    def attached(cls, node: Node, environment: str, service: str, instance: str, directory: Path) -> Member:
        """Makes a workload on ``node``, attaches it, and starts a web server in it. Raises `agent.control.client`'s."""
        workload = node.workload(f"{environment}-{service}")
        # First, for the agent puts another file in the place of the resolv.conf: a mount made before shows the old one.
        node.attach(environment, service, instance, workload)
        text = f"{service}/{instance} of {environment}, on {node.name}"
        with (directory / f"{environment}-{service}-{instance}.log").open("wb") as log:
            server = workload.popen([sys.executable, "-c", _SERVER, text, str(PORT)], log)
        assert server.stdout
        if server.stdout.readline() != b"ready\n":
            raise SandboxFailed(f"the web server of {text} has not started")
        return cls(environment, service, instance, node, workload)

    @property
    def address(self) -> str:
        """The address that it was attached with."""
        return self.workload.address

    def call(self, host: str, patience: float = 5.0) -> Call:
        """Requests ``http://host:8080/`` from inside, once, with ``patience`` seconds for the connection."""
        command = [sys.executable, "-c", _CLIENT, host, str(PORT), str(patience)]
        done: subprocess.CompletedProcess[str] = self.workload.run(command)
        return Call(**json.loads(done.stdout))

    def __str__(self) -> str:
        return f"{self.environment}'s {self.service}, on {self.node.name}"
