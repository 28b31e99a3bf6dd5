"""Look-ups through nginx: ``proxy_pass`` to a variable, so that its resolver is asked for every request.

The upstream is a server of the test that tells at which address it was reached.
"""

from __future__ import annotations

import ctypes
import http.client
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.clients.programs import webserver
from tests.clients.programs.answers import Failed, NoSuchLookup, NotThere, serve

_PORT = 8080
_PATIENCE = 40.0  # seconds; nginx gives up after 30
_CONFIGURATION = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
    uwsgi_temp_path {directory}; scgi_temp_path {directory};
    resolver {resolver} ipv6=on valid=1s;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://$http_x_name:{upstream};
        }}
    }}
}}
"""


def _resolver() -> str:
    """What resolv.conf names: nginx does not read it."""
    words = next(line for line in Path("/etc/resolv.conf").read_text().splitlines() if line.startswith("nameserver"))
    return f"[{words.split()[1]}]"


class Nginx:
    def __init__(self, directory: Path) -> None:
        self._log = directory / "error.log"
        configuration = directory / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(directory=directory, resolver=_resolver(), port=_PORT, upstream=webserver.PORT)
        )
        self._process = subprocess.Popen(
            ["/usr/sbin/nginx", "-c", configuration, "-e", self._log],
            preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL),  # it ends with us
        )
        deadline = time.monotonic() + 10
        while not self._listens():
            assert time.monotonic() < deadline, "nginx did not start"
            time.sleep(0.02)

    def _listens(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", _PORT)
        try:
            connection.connect()
        except OSError:
            return False
        connection.close()
        return True

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def look(self, request: list[str]) -> Iterable[str]:
        match request:
            case ["any", name]:
                return [self._visit(name)]
            case ["6", name] if name.startswith("warm."):
                return [self._visit(name)]
            case ["many", count, suffix]:
                with ThreadPoolExecutor(int(count)) as threads:
                    found = threads.map(lambda number: self._visit(f"m{number}.{suffix}"), range(int(count)))
                    return [str(sum(1 for one in found if one))]
        raise NoSuchLookup

    def _visit(self, name: str) -> str:
        read = self._log.stat().st_size
        connection = http.client.HTTPConnection("127.0.0.1", _PORT, timeout=_PATIENCE)
        try:
            connection.request("GET", "/", headers={"X-Name": name})
            response = connection.getresponse()
            body = response.read().decode().strip()
        except OSError as error:
            raise Failed(str(error)) from error
        finally:
            connection.close()
        if response.status == 200:
            return body
        with self._log.open() as log:
            log.seek(read)
            text = log.read()
        if "could not be resolved (3: Host not found)" in text:
            raise NotThere("Host not found")
        raise Failed(next((line.split("]", 1)[1] for line in text.splitlines() if "resolved" in line), text[-200:]))


if __name__ == "__main__":
    webserver.start()
    with tempfile.TemporaryDirectory(prefix="interlock-clients-") as made:
        Path(made).chmod(0o755)
        nginx = Nginx(Path(made))
        try:
            serve(nginx.look)
        finally:
            nginx.close()
