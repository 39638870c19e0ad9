"""The follower: ships what is committed every few seconds, so that a lost disk costs seconds and not hours."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from core.clock import now_us, to_datetime
from core.failpoints import hit
from core.files import durable
from core.ids import new_id
from core.security.anchor_key import AnchorKey
from core.security.secrets import Secrets
from core.services.backups import making, shipments
from core.services.backups.making import FAILURES, Progress
from core.services.backups.manifests import BackupError, kept
from core.services.backups.shipments import Header
from core.settings import Settings
from core.storage.engines import Engine
from core.storage.sqlite.connections import AUTOCHECKPOINT_PAGES
from core.storage.sqlite.engine import Database
from core.storage.sqlite.log import FollowedLog, LogGap, follower_lock, read_tick
from core.storage.sqlite.log_reader import Position

LOOK_SECONDS = 1.0
"""The log is read at least this often, so that it stays short and little is left to read in a turn."""

Shipped = Callable[[Header, int, float], None]
"""Called after each shipment with its header, its size in bytes, and the seconds of its turn, in which writers wait."""


def follow(
    settings: Settings,
    database: Engine,
    folder: Path,
    every: float,
    stop: threading.Event,
    *,
    progress: Progress,
    shipped: Shipped,
) -> None:
    """Ship everything that is committed, every few seconds, until told to stop. Raises BackupError.

    If some of the log is lost, as after a restart without a follower, a new series begins with a new backup.
    """
    source = making.file_of(database)
    lock = follower_lock(source.path)
    try:
        if not lock.take("giro backup --follow"):
            raise BackupError(f"{source.path} is followed already: {lock.holder()}")
        folder = folder.absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while not stop.is_set():
            follower = Follower(settings, source, folder, shipped)
            with suppress(LogGap):
                follower.run(every, stop, progress)
    except FAILURES as error:
        raise BackupError(f"shipping ended: {getattr(error, 'orig', error)}") from error
    finally:
        lock.close()


class Follower:
    """One series of shipments, from its backup until it is stopped or some of the log is lost."""

    def __init__(self, settings: Settings, database: Database, folder: Path, shipped: Shipped) -> None:
        secret = Secrets(settings).anchor_key.find()
        self._key = None if secret is None else AnchorKey(secret)
        self._settings = settings
        self._database = database
        self._folder = folder
        self._shipped = shipped
        self._log = FollowedLog(database)
        self._series, self._tick, self._highest = "", 0, 0
        self._checkpoint_at = time.monotonic() + settings.checkpoint_minutes * 60

    def run(self, every: float, stop: threading.Event, progress: Progress) -> None:
        """Begin or continue a series, and ship until told to stop. Raises LogGap."""
        try:
            self.begin(progress)
            due = 0.0
            while not stop.is_set():
                self._log.read()
                if time.monotonic() >= due or self._log.frames >= AUTOCHECKPOINT_PAGES:
                    self.ship()
                    due = time.monotonic() + every
                stop.wait(min(every, LOOK_SECONDS))
            self.ship()
        finally:
            self._log.close()

    def begin(self, progress: Progress) -> None:
        """Continue the series of the newest backup, if the log has all that follows; otherwise begin with a backup."""
        before = shipments.newest(self._folder)
        with self._database.turnstile.turn():
            noted = read_tick(self._database.path)
        # Higher than every tick that a backup can have noted, also if the clock has gone back.
        noticed = [manifest.last_capture[1] for _, manifest in kept(self._folder) if manifest.last_capture]
        self._highest = max([now_us(), before.tick if before else 0, noted[1] if noted else 0, *noticed]) + 1
        self._series, self._tick = str(new_id()), self._highest
        wanted = Position(before.salts, before.frame, before.checksum) if before else None
        if self._log.start(wanted, self._series, self._tick) and before is not None:
            self._series, self._tick = before.series, before.tick
            return
        hit("ship.before_backup")
        making.make(self._settings, self._database, self._folder, progress)
        shipments.prune(self._folder, self._series)

    def ship(self) -> None:
        """Ship what is committed now, if anything is. Raises LogGap, and OSError if it cannot be written."""
        self._log.read()
        checkpoint = time.monotonic() >= self._checkpoint_at and self._log.frames > 0
        if self._log.collected or checkpoint:
            after, self._tick = self._tick, max(now_us(), self._highest + 1)
            self._highest = self._tick
            capture = self._log.capture(self._series, self._tick, checkpoint=checkpoint)
            hit("ship.captured")
            if checkpoint:
                self._checkpoint_at = time.monotonic() + self._settings.checkpoint_minutes * 60
            header = Header(
                series=self._series,
                tick=self._tick,
                after=after,
                shipped_at=to_datetime(now_us()),
                pages=capture.pages,
                page_size=capture.page_size,
                salts=capture.position.salts,
                frame=capture.position.frame,
                checksum=capture.position.checksum,
                sealed=False,
                sha256="",
            )
            secret = Secrets(self._settings).backup_key.find()
            self._shipped(
                shipments.write(self._folder, header, capture, self._key, secret),
                len(capture.body),
                capture.turn_seconds,
            )
        self._copy_lists()
        current = shipments.current_path(self._folder)
        current.parent.mkdir(mode=0o700, exist_ok=True)
        current.touch(mode=0o600)

    def _copy_lists(self) -> None:
        """Keep copies of the lists of erased and excluded users next to the backups, where a restore reads them."""
        for path in (self._settings.erasures_path, self._settings.exclusions_path):
            copy = self._folder / path.name
            if path.exists():
                text, before = path.read_bytes(), copy.read_bytes() if copy.exists() else b""
                if text != before and text.startswith(before):
                    durable.replace(copy, text)
