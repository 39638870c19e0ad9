"""Following the write-ahead log: every committed page is read before SQLite may overwrite it.

This process holds a read transaction all the time, the *pin*, so SQLite never begins the log again. When the log is
long, this process reads the rest, ends the pin, lets SQLite move the log into the database, and begins the next pin,
all in one turn. A child process reads the log's file (core/storage/sqlite/log_reader.py).
"""

import json
import subprocess  # nosec B404 # commands are lists of words
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from core.files.locks import FileLock
from core.storage.sqlite.connections import AUTOCHECKPOINT_PAGES, Connections
from core.storage.sqlite.log_reader import Position


class LogGap(Exception):
    """Some of the log was overwritten before it was read, or it is damaged: a new series must begin."""


@dataclass(frozen=True, slots=True)
class Capture:
    """What has been committed since the capture before: pages with their numbers, and where the log ends."""

    position: Position
    pages: int
    """The size of the database in pages."""
    page_size: int
    body: bytes
    turn_seconds: float
    """How long writers had to wait for it."""


def follower_lock(database: Path) -> FileLock:
    """Open the lock whose holder is the one follower of a database."""
    return FileLock(database.with_name(f"{database.name}.follower.lock"))


def is_followed(database: Path) -> bool:
    """Return whether a follower runs, which then makes the checkpoints."""
    lock = follower_lock(database)
    try:
        return not lock.try_acquire()
    finally:
        lock.close()


def tick_path(database: Path) -> Path:
    """Return the file with the series and the tick of the last capture. Only the holder of the turn may use it."""
    return database.with_name(f"{database.name}.tick")


def read_tick(database: Path) -> tuple[str, int] | None:
    """Read the series and the tick of the last capture; None if there was none. Call it in a turn."""
    with suppress(FileNotFoundError, ValueError):
        series, tick = tick_path(database).read_text().split()
        return series, int(tick)
    return None


class FollowedLog:
    """The log of one database, followed from `start` on. Not thread-safe."""

    def __init__(self, database: Connections) -> None:
        self._database = database
        self._pin: Connection | None = None
        self._reader: subprocess.Popen[bytes] | None = None
        self.frames = 0
        """The length of the log when it was last read."""
        self.collected = 0
        """Pages that were read and not captured yet."""

    def start(self, wanted: Position | None, series: str, tick: int) -> bool:
        """Continue from a position, and return whether the log still has all that follows it."""
        with self._database.turnstile.turn():
            self._begin_pin()
            command = [sys.executable, "-m", "core.storage.sqlite.log_reader", str(self._database.path)]
            self._reader = subprocess.Popen(  # nosec B603 # a list of words, and no shell
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            given = json.dumps({name: getattr(wanted, name) for name in Position.__slots__}) if wanted else ""
            continues: bool = self._ask(f"start {given}")["continues"]
            if not continues:
                self._write_tick(series, tick)
            self._ask("tail")
            self._ask("pinned")
        return continues

    def read(self) -> None:
        """Read what was committed since. No writer waits for it. Raises LogGap."""
        found = self._ask("read")
        self.frames, self.collected = found["position"]["frame"], found["collected"]

    def capture(self, series: str, tick: int, *, checkpoint: bool) -> Capture:
        """Capture everything that is committed now, in a turn, and let SQLite shorten the log if that is wanted.

        The tick orders captures and backups: a backup notes, in its own turn, the tick of the last capture before it.
        Raises LogGap.
        """
        with self._database.turnstile.turn():
            begun = time.perf_counter()
            self._write_tick(series, tick)
            found = self._ask("tail")
            if checkpoint or found["position"]["frame"] >= AUTOCHECKPOINT_PAGES:
                self._checkpoint()
            seconds = time.perf_counter() - begun
        self.collected = 0
        position = Position(**found["position"])
        return Capture(position, found["pages"], found["page_size"], self._take(), seconds)

    def close(self) -> None:
        """End the pin and the child."""
        if self._reader is not None:
            for pipe in (self._reader.stdin, self._reader.stdout):
                if pipe is not None:
                    pipe.close()
            self._reader.wait()
            self._reader = None
        self._end_pin()

    def _checkpoint(self) -> None:
        """Move the log into the database as far as other readers allow; waiting for them would hold up all writers."""
        self._end_pin()
        with self._database.writer.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            (patience,) = raw.execute("PRAGMA busy_timeout").fetchone()
            raw.execute("PRAGMA busy_timeout=0").fetchone()
            try:
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                raw.execute(f"PRAGMA busy_timeout={patience}").fetchone()
        self._begin_pin()
        self._ask("pinned")

    def _begin_pin(self) -> None:
        self._pin = self._database.reader.connect()
        self._pin.exec_driver_sql("SELECT count(*) FROM sqlite_master")

    def _end_pin(self) -> None:
        if self._pin is not None:
            self._pin.close()
            self._pin = None

    def _write_tick(self, series: str, tick: int) -> None:
        # nosemgrep: the-database-is-never-opened-as-a-file - a file of its name, with an ending
        tick_path(self._database.path).write_text(f"{series} {tick}\n")

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._reader is not None
        request, replies = self._reader.stdin, self._reader.stdout
        assert request is not None
        assert replies is not None
        try:
            request.write(f"{line}\n".encode())
            request.flush()
            answer: dict[str, Any] = json.loads(replies.readline() or '{"gap": "its reader has died"}')
        except BrokenPipeError:
            answer = {"gap": "its reader has died"}
        if "gap" in answer:
            raise LogGap(answer["gap"])
        return answer

    def _take(self) -> bytes:
        size = self._ask("take")["size"]
        assert self._reader is not None
        assert self._reader.stdout is not None
        return self._reader.stdout.read(size)
