"""Signs of life: a file that a process touches every second.

Each process has its own, named after what it does, its host and its number: in a folder that containers share,
one that hangs is not hidden by another that does the same work. Only the standard library is used here, as the health
check of a container (core/processes/healthcheck.py) runs often and must start fast.
"""

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
"""In a container its id: process numbers alone would be the same in all of them."""

STALE_SECONDS = 3600.0


def path_of(run_dir: Path, name: str, pid: int | None = None) -> Path:
    """Name the file of a process of this host that does `name`; by default of this one."""
    return run_dir / f"{name}.{HOST}.{pid or os.getpid()}.heartbeat"


def age(run_dir: Path, name: str) -> float | None:
    """Seconds of wall-clock time since the last beat of any process that does `name`, at least 0; None without one."""
    return min((old for _, old in _beats(run_dir, f"{name}.*.*.heartbeat")), default=None)


def here(run_dir: Path) -> dict[str, float]:
    """Seconds since the last beat of everything that is done on this host, by name."""
    beats = [(path.name.partition(".")[0], old) for path, old in _beats(run_dir, f"*.{HOST}.*.heartbeat")]
    return {name: min(old for other, old in beats if other == name) for name, _ in beats}


def fresh(run_dir: Path, seconds: float) -> list[str]:
    """Name everything that has beaten within so many seconds, on any host that shares the folder."""
    return [
        "{}, process {} on {}, alive {:.0f} s ago".format(*(path.name.split(".")[place] for place in (0, 2, 1)), old)
        for path, old in _beats(run_dir, "*.*.*.heartbeat")
        if old < seconds
    ]


def last_beat_ns(run_dir: Path, pid: int) -> int | None:
    """When a process of this host last beat, whatever it does, as its file's time; None if it has not."""
    beats = []
    for path in _files_of(run_dir, pid):
        with suppress(OSError):
            beats.append(path.stat().st_mtime_ns)
    return max(beats, default=None)


def forget(run_dir: Path, pid: int) -> None:
    """Remove what a process of this host that has ended left behind."""
    for path in _files_of(run_dir, pid):
        with suppress(OSError):
            path.unlink()


def forget_stale(run_dir: Path) -> None:
    """Remove what was left behind where nobody was there to tidy up: a container that was killed, a power cut."""
    for path, old in _beats(run_dir, "*.heartbeat"):
        if old > STALE_SECONDS:
            with suppress(OSError):
                path.unlink()


def _files_of(run_dir: Path, pid: int) -> list[Path]:
    return list(run_dir.glob(f"*.{HOST}.{pid}.heartbeat"))


def _beats(run_dir: Path, pattern: str) -> Iterator[tuple[Path, float]]:
    now = time.time()
    for path in run_dir.glob(pattern):
        with suppress(OSError):
            yield path, max(0.0, now - path.stat().st_mtime)
