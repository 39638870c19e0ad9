"""A real Prometheus that scrapes a stack: its configuration, its process, and queries."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx2

from tests.flows.stack import START_SECONDS, STOP_SECONDS, free_port
from tests.waiting import eventually

SCRAPE_SECONDS = 1


class Prometheus:
    """One Prometheus with its own port and folder. It ends the processes that it started, by pid."""

    def __init__(self, folder: Path, targets: dict[str, int]) -> None:
        """`targets`: the metrics port of each process."""
        self.folder = folder
        self.targets = targets
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx2.Client(base_url=self.url, trust_env=False, timeout=20)

    def start(self) -> "Prometheus":
        """Start it, and wait until it answers."""
        configuration = self.folder / "prometheus.json"
        configuration.write_text(json.dumps(self._configuration()))  # JSON is YAML too
        command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={self.folder / 'storage'}"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"]
        with (self.folder / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(self._is_ready, START_SECONDS)
        return self

    def _configuration(self) -> dict[str, object]:
        static = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"process": process}} for process, port in self.targets.items()
        ]
        return {
            "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"},
            "scrape_configs": [{"job_name": "giro", "static_configs": static}],
        }

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, (self.folder / "prometheus.log").read_text()[-2000:]
        try:
            return self.client.get("/-/ready").status_code == 200
        except httpx2.TransportError:
            return False

    def close(self) -> None:
        """End it."""
        self.client.close()
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now, and return its samples, with the labels in `metric` and the number in `value`."""
        answer = self.client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer['error']}"
        result = answer["data"]["result"]
        return [{"metric": sample["metric"], "value": float(sample["value"][1])} for sample in result]
