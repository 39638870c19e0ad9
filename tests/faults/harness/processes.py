"""The processes of a running service, read from the process table, because its log may be late."""

import os
import signal
from contextlib import suppress
from pathlib import Path

WORDS = {
    "settlement": (b"workers.main", b"settlement"),
    "jobs": (b"workers.main", b"jobs"),
    "scheduler": (b"workers.schedule",),
    "api": (b"api.server.process",),
}
"""Part of the command line of each child; only Valkey is not a Python process."""


def children_of(pid: int) -> dict[str, int]:
    """The living children of a supervisor, by name."""
    found = {}
    with suppress(OSError):
        for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if name := _name_of(int(number)):
                found[name] = int(number)
    return found


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False if the process no longer exists."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _name_of(pid: int) -> str | None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    for name, wanted in WORDS.items():
        if all(word in words for word in wanted):
            return name
    return "valkey" if b"valkey" in words[0] else None
