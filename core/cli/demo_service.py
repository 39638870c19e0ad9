"""The temporary service of the demonstration."""

import os
import socket
import subprocess  # nosec B404 # commands are lists of words
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

READY_SECONDS = 90
RETRY_SECONDS = 0.1
STOP_SECONDS = 15


class DemoError(Exception):
    """The demonstration failed. The message is one line."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running service, as seen from outside: its URL, and how to call `giro` for it."""

    url: str
    giro: Sequence[str]
    environment: Mapping[str, str]

    def call(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a `giro` command and wait for its end."""
        command = [*self.giro, *arguments]
        return subprocess.run(  # nosec B603 # a list of words, and no shell
            command, env=self.environment, input=stdin, text=True, capture_output=True, check=False
        )


def environment_of(folder: Path) -> dict[str, str]:
    """Return the settings of a service that does not disturb any other."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIRO_")}
    for name in ("DATABASE_URL", "REDIS_URL", "JWT_SECRET", "SENTRY_DSN"):
        # Set to empty, not left out: a .env file here must not direct the demonstration to real data.
        kept[name] = ""
    metrics = {f"GIRO_METRICS_PORT_{name}": "0" for name in ("API", "SETTLEMENT", "JOBS", "SCHEDULER")}
    return {
        **kept,
        **metrics,
        "GIRO_DATA_DIR": str(folder / "data"),
        "GIRO_HOST": "127.0.0.1",
        "GIRO_PORT": str(_free_port()),
        "GIRO_LOG_FORMAT": "json",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def temporary_service(environment: Mapping[str, str], log: Path) -> Iterator[Service]:
    """Run `giro up` until the block ends. Yields the service when it is ready."""
    giro = [sys.executable, "-m", "core.cli"]
    url = f"http://127.0.0.1:{environment['GIRO_PORT']}"
    with log.open("wb") as output:
        # A list of words, and no shell.
        process = subprocess.Popen([*giro, "up"], env=environment, stdout=output, stderr=output)  # nosec B603
    try:
        _wait_until_ready(process, url, log)
        yield Service(url, giro, environment)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError(f"the service ended: {log.read_text()[-500:]}")
        try:
            if httpx2.get(f"{url}/health/ready", trust_env=False).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(RETRY_SECONDS)
    raise DemoError("the service did not become ready")
