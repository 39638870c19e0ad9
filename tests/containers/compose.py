"""A copy of the project, brought up by its own compose file: real images, real containers, ports and data of its own.

`COMPOSE` in the environment names the command, where that is not `docker compose`; `{project}` in it stands for the
folder.
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
    """The stack of one test run. It stops what it started, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        copy_project(folder)
        self.owner = os.getuid() or DEFAULT_UID
        self.ports = {name: free_port() for name in ("api", "prometheus", "alertmanager", "grafana")}
        self.url = f"http://127.0.0.1:{self.ports['api']}"
        self.environment = os.environ | {
            "COMPOSE_PROJECT_NAME": f"giro-test-{os.getpid()}",
            "GIRO_IMAGE": "giro-test",
            # A test that is not root's looks into the folder as well. With root's, the user is the default one.
            "GIRO_UID": str(os.getuid() or ""),
            "GIRO_GID": str(os.getgid() or ""),
            "GIRO_PUBLISH": f"127.0.0.1:{self.ports['api']}",
            **{f"{name.upper()}_PORT": str(port) for name, port in self.ports.items() if name != "api"},
        }
        # Left out of the image, and read by compose for what it passes on: none of the developer's own.
        self.environment |= dict.fromkeys(
            ("REDIS_PASSWORD", "JWT_SECRET", "GIRO_CARD_KEYS", "GIRO_CARD_INDEX_KEY", "GIRO_ANCHOR_KEY"), ""
        )
        self.client = httpx2.Client(base_url=self.url, trust_env=False, timeout=40)

    # --- commands ---

    @property
    def command(self) -> list[str]:
        """The words before those that say what to do. The option keeps them apart from any wrapper's own commands."""
        return [*shlex.split(COMMAND.replace("{project}", str(self.folder))), "--ansi", "never"]

    def run(
        self, *arguments: str, stdin: str = "", seconds: float = UP_SECONDS, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a compose command to its end."""
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
        """Run a compose command that has to succeed; its output."""
        done = self.run(*arguments, seconds=seconds)
        assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def build(self) -> None:
        self.do("build", seconds=BUILD_SECONDS)

    def up(self, *arguments: str) -> None:
        """Bring up what is not up, and wait until all of it is healthy."""
        self.do("up", "--detach", *arguments)
        self.wait_until_healthy()

    def down(self) -> None:
        """Remove every container and network; ./data stays."""
        self.do("down", "--timeout", "30", "--remove-orphans")

    def close(self) -> None:
        self.client.close()
        self.run("down", "--timeout", "5", "--volumes", "--remove-orphans", "--rmi", "local")

    def giro(self, service: str = "api") -> list[str]:
        """How `giro` is called inside a running container."""
        return [*self.command, "exec", "-T", service, "giro"]

    # --- what runs ---

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """What compose says of the containers, one for each that exists."""
        lines = self.do("ps", "--all", "--format", "json").splitlines()
        found: list[dict[str, Any]] = []
        for line in filter(None, lines):
            told = json.loads(line)
            found += told if isinstance(told, list) else [told]
        return [container for container in found if service in (None, container["Service"])]

    def health(self) -> dict[str, str]:
        """Service → health of its worst container; those that run once are left out."""
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
        """End process 1 of a container as a crash would, and wait for another in its place.

        From here, since Docker does not restart what it was asked to kill.
        """
        killed = eventually(lambda: _first_process(container["ID"]))
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: _first_process(container["ID"]) not in (None, killed), HEAL_SECONDS)

    def log(self, service: str) -> str:
        return self.do("logs", "--no-color", "--no-log-prefix", service)


def copy_project(folder: Path) -> None:
    """Copy what a clone would hold, changes that are not committed included."""
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
    """Find process 1 of a container, by the number that this machine gives it; None while there is none.

    Needs an engine on this machine, and not in a virtual one.
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
