"""Heartbeats: files that processes touch every second.

Each process has its own file, named after its work, its host and its number. So in a folder that containers share, a
process that hangs is not hidden by another one with the same work.

Each beats twice: in the data folder, which containers share, and in a folder in memory, which only this host sees. So a
full, read-only or hanging disk silences no process, and the supervisor kills none because of it.

Only the standard library is used here, because the health check of a container (core/processes/healthcheck.py) runs
often and must start fast.
"""

import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
"""In a container its id. Process numbers alone would be the same in all containers."""

STALE_SECONDS = 3600.0

MEMORY = Path("/dev/shm")  # noqa: S108 # nosec B108 # the folder below it is checked to be ours
"""A file system in memory, also in containers. Systems without it only have the data folder."""


def memory_dir(run_dir: Path) -> Path:
    """Return the folder in memory for the heartbeats of this user's processes that belong to a data folder."""
    return MEMORY / f"giro-{os.geteuid()}-{blake2b(os.fsencode(run_dir), digest_size=8).hexdigest()}"


def folders(run_dir: Path) -> list[Path]:
    """Return the folders to beat in: in memory, if the system has that, and in the data folder."""
    with suppress(OSError):
        memory_dir(run_dir).mkdir(mode=0o700, exist_ok=True)
    return [folder for folder in (memory_dir(run_dir), run_dir) if folder == run_dir or _is_ours(folder)]


def remove_memory_dir(run_dir: Path) -> None:
    """Remove the folder in memory, unless a process beats there."""
    with suppress(OSError):
        memory_dir(run_dir).rmdir()


def _is_ours(folder: Path) -> bool:
    with suppress(OSError):
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return False


_CONTAINER_ID = re.compile(r"[0-9a-f]{12}")
"""The name that a container engine gives a container's host."""


class Beat(NamedTuple):
    """The last beat of a process: its work, its host, its number, and the seconds since."""

    name: str
    host: str
    pid: str
    age_seconds: float

    @property
    def is_in_container(self) -> bool:
        """Whether the host has the name of a container."""
        return _CONTAINER_ID.fullmatch(self.host) is not None

    def __str__(self) -> str:
        """Describe the process for people."""
        return f"{self.name}, process {self.pid} on {self.host}, alive {self.age_seconds:.0f} s ago"


def path_of(run_dir: Path, name: str, pid: int | None = None) -> Path:
    """Return the path of the heartbeat of a process of this host, by default of this process, whose work is `name`."""
    return run_dir / f"{name}.{HOST}.{pid or os.getpid()}.heartbeat"


def age(run_dir: Path, name: str) -> float | None:
    """Return the seconds since the last beat of any process whose work is `name`, at least 0; None without one."""
    return min((old for _, old in _beats(run_dir, f"{name}.*.*.heartbeat")), default=None)


def here(run_dir: Path) -> dict[str, float]:
    """Return the seconds since the last beat of each kind of work on this host, by name."""
    beats = [(path.name.partition(".")[0], old) for path, old in _beats(run_dir, f"*.{HOST}.*.heartbeat")]
    return {name: min(old for other, old in beats if other == name) for name, _ in beats}


def everywhere(run_dir: Path) -> list[Beat]:
    """Return the last beat of each process on any host that shares the folder, the newest first."""
    newest: dict[str, float] = {}  # of both folders
    for path, old in _beats(run_dir, "*.*.*.heartbeat"):
        if path.parent != run_dir and _has_ended(path):
            continue
        newest[path.name] = min(old, newest.get(path.name, old))
    beats = []
    for file, old in newest.items():
        name, host, pid, _ = file.split(".")
        beats.append(Beat(name, host, pid, old))
    return sorted(beats, key=lambda beat: beat.age_seconds)


def fresh(run_dir: Path, seconds: float) -> list[Beat]:
    """Return the beats of the processes that have beaten within these seconds."""
    return [beat for beat in everywhere(run_dir) if beat.age_seconds < seconds]


def last_beat_ns(run_dir: Path, pid: int) -> int | None:
    """Return the time (ns) of the last beat of a process of this host; None if it has not beaten."""
    beats = []
    for path in _files_of(run_dir, pid):
        with suppress(OSError):
            beats.append(path.stat().st_mtime_ns)
    return max(beats, default=None)


def forget(run_dir: Path, pid: int) -> None:
    """Remove the heartbeats of an ended process of this host."""
    for path in _files_of(run_dir, pid):
        with suppress(OSError):
            path.unlink()
    remove_memory_dir(run_dir)


def forget_stale(run_dir: Path) -> None:
    """Remove stale heartbeats, which a killed container or a power cut leaves behind."""
    for path, old in _beats(run_dir, "*.heartbeat"):
        if old > STALE_SECONDS:
            with suppress(OSError):
                path.unlink()


def _files_of(run_dir: Path, pid: int) -> list[Path]:
    return list(_glob(run_dir, f"*.{HOST}.{pid}.heartbeat"))


def _has_ended(path: Path) -> bool:
    """Return whether a beat in memory was left by a killed process of this host, even if its data folder was lost."""
    _, host, pid, _ = path.name.split(".")
    if host != HOST:
        return False  # of a container that shares the memory, with its own process numbers
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False
    return state == b"Z"


def _glob(run_dir: Path, pattern: str) -> Iterator[Path]:
    memory = memory_dir(run_dir)
    for folder in (memory, run_dir) if _is_ours(memory) else (run_dir,):
        with suppress(OSError):
            yield from folder.glob(pattern)


def _beats(run_dir: Path, pattern: str) -> Iterator[tuple[Path, float]]:
    now = time.time()
    for path in _glob(run_dir, pattern):
        with suppress(OSError):
            yield path, max(0.0, now - path.stat().st_mtime)
