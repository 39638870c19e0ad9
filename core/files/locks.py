"""File locks between processes, and the signatures that say which process holds one.

The kernel drops a lock when the process that holds it ends, however it ends.
"""

import errno
import fcntl
import json
import os
import socket
from contextlib import suppress
from pathlib import Path

from core.clock import now_us, to_datetime


class FileLock:
    """An exclusive `flock` on its own file, made on demand with mode 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = open_lock(path)

    def acquire(self) -> None:
        """Wait for the lock, for as long as it takes."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def take(self, what: str) -> bool:
        """Take the lock if nobody holds it, and sign it as `what`."""
        if not self.try_acquire():
            return False
        sign(self._descriptor, what)
        return True

    def holder(self) -> str:
        """Return the holder's signature."""
        return signature(self._descriptor)

    def release(self) -> None:
        """Release the lock."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the descriptor, which releases the lock."""
        os.close(self._descriptor)


def open_lock(path: Path) -> int:
    """Open the file of a lock, and make it if it is missing. On a read-only disk the lock works without a signature."""
    # Python opens with O_CLOEXEC: no child ever inherits the lock.
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY)


def sign(descriptor: int, what: str) -> None:
    """Write the holder into the file of a lock: this process, its host, its activity `what`, and the time."""
    since = to_datetime(now_us()).isoformat(timespec="seconds")
    signed = {"pid": os.getpid(), "host": socket.gethostname(), "what": what, "since": since}
    # The old signature may be that of a killed process and must not be read as the new one. On a full disk the lock is
    # held without a signature.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(signed).encode(), 0)


def signature(descriptor: int) -> str:
    """Read the holder of a lock from its file, as a text for people."""
    try:
        signed = json.loads(os.pread(descriptor, 1000, 0))
        if "url" in signed:  # written by a version in which only `giro up` signed
            return f"process {signed['pid']}, {signed['url']}, since {signed['since']}"
        return f"process {signed['pid']} on {signed['host']}, {signed['what']}, since {signed['since']}"
    except (ValueError, KeyError, TypeError):
        return "one that has not signed: it is just starting, or of an older version"
