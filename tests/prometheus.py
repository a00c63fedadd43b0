"""A real Prometheus, from Debian, on a port of the loopback. Its files are in a temporary directory."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from servers import free_port

PATIENCE = 300.0  # seconds; a limit for faults, never a measure


def missing() -> str | None:
    """Why this machine cannot run one, or None."""
    return None if shutil.which("prometheus") else "prometheus is missing (Debian: prometheus)"


class Prometheus:
    """Scrapes workers as the job shithubd-worker. Use `with Prometheus({"web1": "127.0.0.1:8081"}, "1s")`.

    `workers` maps each `instance` to the address to scrape. `every` is the interval, in Prometheus's notation.
    """

    def __init__(self, workers: Mapping[str, str], every: str) -> None:
        self._workers = workers
        self._every = every

    def __enter__(self) -> Prometheus:
        self._directory = Path(tempfile.mkdtemp(prefix="shw-prometheus-"))
        targets = "".join(
            f'      - {{targets: ["{address}"], labels: {{instance: "{name}"}}}}\n'
            for name, address in self._workers.items()
        )
        (self._directory / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {self._every}, scrape_timeout: {self._every}}}\n"
            f"scrape_configs:\n  - job_name: shithubd-worker\n    static_configs:\n{targets}"
        )
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._directory / 'data'}",
                    f"--web.listen-address={address}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # nothing of it needs an orderly end
        self._process.wait()
        shutil.rmtree(self._directory)

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series of this moment. Raises ValueError with Prometheus's message if the text is not PromQL."""
        return list(self._ask("query", query=expr)["result"])

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series between two times, with a sample every `step` seconds."""
        answer = self._ask("query_range", query=expr, start=str(start), end=str(end), step=str(step))
        return list(answer["result"])

    def _ask(self, what: str, **parameters: str) -> Any:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{parameters['query']}: {json.load(error)['error']}") from None

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready"):
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"no Prometheus: {(self._directory / 'log').read_text()[-2000:]}")
