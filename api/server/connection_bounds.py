"""Bounds of connections: their number, the time and the bytes that each may take."""

import resource
from dataclasses import dataclass
from typing import Self

from core.settings import Settings
from core.telemetry.logging import get_logger

log = get_logger(__name__)

OTHER_DESCRIPTORS = 200
"""Open files that a process needs besides its connections: the database, locks, the queue, metrics."""


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """The bounds of all connections of a process."""

    connections: int
    head_bytes: int
    """Bytes of a request that may arrive without completing any part of it."""
    head_seconds: float
    idle_seconds: float
    send_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take the bounds from the settings. The operating system's limit of open files may allow fewer connections."""
        return cls(
            connections=_affordable(settings.connections),
            head_bytes=settings.header_bytes + settings.url_bytes,
            head_seconds=settings.header_seconds,
            idle_seconds=settings.idle_seconds,
            send_seconds=settings.send_seconds,
        )


def _affordable(connections: int) -> int:
    """Raise the process's limit of open files as far as needed, and return how many connections it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    affordable = max(1, soft - OTHER_DESCRIPTORS)
    log.warning("few_open_files", connections=affordable, wanted=connections)
    return affordable
