"""Prometheus' own tool, which reads metrics and rules as a server does."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.store.servers import free_port
from tests.waiting import scaled

DEADLINE = scaled(120.0)  # seconds; a rate needs two scrapes, a second apart, and Prometheus takes some to start


def promtool(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """``promtool`` with ``arguments``, run to its end. Skips the test where there is none."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool on this machine, to read metrics with: install the package prometheus")
    return subprocess.run([program, *arguments], input=stdin, capture_output=True, text=True, check=False)


class Prometheus:
    """A Prometheus that scrapes every second, and answers queries."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/query?"

    def query(self, expression: str) -> list[float]:
        """The value of each series that ``expression`` finds now. Raises ``OSError`` before Prometheus listens."""
        with urlopen(self._url + urlencode({"query": expression}), timeout=10) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return [float(series["value"][1]) for series in answer["data"]["result"]]


@contextmanager
def scraping(directory: Path, targets: Mapping[str, str]) -> Iterator[Prometheus]:
    """A Prometheus that scrapes ``targets``, an address by job; it keeps its data in ``directory``."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus on this machine, to evaluate queries with: install the package prometheus")
    jobs = [{"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()]
    every = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    (directory / "prometheus.yaml").write_text(json.dumps({"global": every, "scrape_configs": jobs}))
    port = free_port()
    with (
        (directory / "prometheus.log").open("wb") as log,
        subprocess.Popen(
            [
                program,
                f"--config.file={directory}/prometheus.yaml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            yield Prometheus(port)
        finally:
            process.kill()


def until_found(prometheus: Prometheus, expressions: Iterable[str], meanwhile: Callable[[], object]) -> None:
    """Returns once each of ``expressions`` finds a series with a number. Fails after a while, and names the others.

    ``meanwhile`` is called again and again: what happens then is what is counted.
    """
    missing, deadline = list(expressions), time.monotonic() + DEADLINE
    while True:
        meanwhile()
        with contextlib.suppress(OSError):  # it does not listen yet
            missing = [one for one in missing if all(math.isnan(value) for value in prometheus.query(one))]
        if not missing:
            return
        assert time.monotonic() < deadline, "these queries find no series:\n" + "\n".join(missing)
        time.sleep(0.2)
