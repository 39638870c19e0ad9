"""A copy of the project, started with its compose file: real images and containers, separate ports and data.

The environment variable `COMPOSE` names the command if it is not `docker compose`. `{project}` in it is replaced by
the folder.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2

from tests.flows.stack import free_port
from tests.waiting import eventually

PROJECT = Path(__file__).parents[2]
COMMAND = os.environ.get("COMPOSE") or "docker compose"
GIRO = ("api", "worker", "jobs", "scheduler")
SERVICES = (*GIRO, "redis", "prometheus", "alertmanager", "grafana")
DEFAULT_UID = 1000

BUILD_SECONDS = 1800
UP_SECONDS = 300
HEAL_SECONDS = 90


class Compose:
    """The stack of one test run. It stops only what it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        copy_project(folder)
        self.owner = os.getuid() or DEFAULT_UID
        self.ports = {name: free_port() for name in ("api", "prometheus", "alertmanager", "grafana")}
        self.url = f"http://127.0.0.1:{self.ports['api']}"
        self.environment = os.environ | {
            "COMPOSE_PROJECT_NAME": f"giro-test-{os.getpid()}",
            "GIRO_IMAGE": "giro-test",
            # A test without root's rights also reads the folder. If root runs the test, the default user is used.
            "GIRO_UID": str(os.getuid() or ""),
            "GIRO_GID": str(os.getgid() or ""),
            "GIRO_PUBLISH": f"127.0.0.1:{self.ports['api']}",
            **{f"{name.upper()}_PORT": str(port) for name, port in self.ports.items() if name != "api"},
        }
        # Compose reads this file for the variables that it passes on; the developer's own file must not be used.
        self.environment |= dict.fromkeys(
            ("REDIS_PASSWORD", "JWT_SECRET", "GIRO_CARD_KEYS", "GIRO_CARD_INDEX_KEY", "GIRO_ANCHOR_KEY"), ""
        )
        self.client = httpx2.Client(base_url=self.url, trust_env=False, timeout=40)

    # --- commands ---

    @property
    def command(self) -> list[str]:
        """Return the command without its subcommand. The option separates it from a wrapper's own commands."""
        return [*shlex.split(COMMAND.replace("{project}", str(self.folder))), "--ansi", "never"]

    def run(
        self, *arguments: str, stdin: str = "", seconds: float = UP_SECONDS, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a compose command until it ends."""
        return subprocess.run(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            input=stdin,
            text=True,
            capture_output=True,
            check=False,
            timeout=seconds,
        )

    def do(self, *arguments: str, seconds: float = UP_SECONDS) -> str:
        """Run a compose command that must succeed, and return its output."""
        done = self.run(*arguments, seconds=seconds)
        assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def build(self) -> None:
        self.do("build", seconds=BUILD_SECONDS)

    def up(self, *arguments: str) -> None:
        """Start all services that do not run, and wait until all are healthy."""
        self.do("up", "--detach", *arguments)
        self.wait_until_healthy()

    def down(self) -> None:
        """Remove every container and network; ./data stays."""
        self.do("down", "--timeout", "30", "--remove-orphans")

    def close(self) -> None:
        self.client.close()
        self.run("down", "--timeout", "5", "--volumes", "--remove-orphans", "--rmi", "local")

    def giro(self, service: str = "api") -> list[str]:
        """Return the command for `giro` inside a running container."""
        return [*self.command, "exec", "-T", service, "giro"]

    # --- what runs ---

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """Return compose's entry for each existing container."""
        lines = self.do("ps", "--all", "--format", "json").splitlines()
        found: list[dict[str, Any]] = []
        for line in filter(None, lines):
            told = json.loads(line)
            found += told if isinstance(told, list) else [told]
        return [container for container in found if service in (None, container["Service"])]

    def health(self) -> dict[str, str]:
        """Return service → health of its worst container, without services that run only once."""
        found: dict[str, str] = {}
        for container in self.containers():
            if container["Service"] in SERVICES:
                health = container["Health"] if container["State"] == "running" else container["State"]
                found[container["Service"]] = max(found.get(container["Service"], ""), health, key=_how_bad)
        return found

    def wait_until_healthy(self) -> None:
        expected = dict.fromkeys(SERVICES, "healthy")
        eventually(lambda: self.health() == expected, UP_SECONDS)

    def kill(self, container: dict[str, Any]) -> None:
        """Kill process 1 of a container like a crash, and wait for its replacement.

        The signal comes from outside of Docker, because Docker does not restart a container that it was asked to kill.
        """
        killed = eventually(lambda: _first_process(container["ID"]))
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: _first_process(container["ID"]) not in (None, killed), HEAL_SECONDS)

    def log(self, service: str) -> str:
        return self.do("logs", "--no-color", "--no-log-prefix", service)


def copy_project(folder: Path) -> None:
    """Copy the files of a clone, including uncommitted changes."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)


def _first_process(container_id: str) -> int | None:
    """Return this machine's pid of a container's process 1, or None while it does not run.

    It needs an engine directly on this machine, not in a virtual machine.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            numbers = (folder / "status").read_text().partition("NSpid:")[2].partition("\n")[0].split()
            if len(numbers) > 1 and numbers[-1] == "1" and container_id in (folder / "cgroup").read_text():
                return int(folder.name)
    return None


def _how_bad(health: str) -> int:
    order = ["", "healthy", "starting", "unhealthy"]
    return order.index(health) if health in order else len(order)
