"""Backups: one file with the whole ledger, verified before it gets its name, and a manifest next to it."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from hashlib import file_digest
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from core import VERSION
from core.clock import now_us, to_datetime
from core.domain.anchors import from_line
from core.failpoints import hit
from core.files import append_only as file_of_anchors
from core.files import durable
from core.files.locks import FileLock
from core.security.fingerprints import fingerprints
from core.security.secrets import Secrets
from core.services.verification import AnchorKeyMissing, Anchors, verify
from core.settings import Settings
from core.storage import blocks
from core.storage.sqlite import copying as storage
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import database_bytes, wal_bytes
from core.storage.unit_of_work import DATABASE_ERRORS

ANCHORS = "anchors.jsonl"
"""The end of the name of the file next to a backup that contains the anchors of the backup's blocks."""

FAILURES: tuple[type[Exception], ...] = (OSError, *DATABASE_ERRORS)
"""Errors of the disk and the database. Any other error is a bug in this module."""

_DRAFT = ".making-"

Progress = Callable[[str, int, int], None]
"""Called now and then with the current step, how much of it is done, and the total."""


class BackupError(Exception):
    """A backup that could not be made, or cannot be used. The message is one line for an operator."""


class LedgerBroken(BackupError):
    """A copy whose ledger breaks its rules."""


class Manifest(BaseModel):
    """The description next to a backup: what it is, what it contains, and which keys it needs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    file: str
    made_at: datetime
    """When the copy began. The backup contains everything that was answered before."""
    duration_seconds: float
    giro: str
    schema_revision: str
    size_bytes: int
    sha256: str
    head: dict[str, int]
    counts: dict[str, int]
    keys: dict[str, str]
    """Fingerprints (core/security/fingerprints.py) of the keys at that time. A backup never contains the keys."""
    anchors_sha256: str | None
    """The SHA-256 of the file with the anchors; None if there was no such file."""


def make(settings: Settings, database: Database, folder: Path, progress: Progress) -> tuple[Path, Manifest]:
    """Make a backup in a folder while other processes write, and return the file and its manifest.

    The backup gets its name last of all, when it is complete, on disk and verified. Raises BackupError if it cannot be
    made, and LedgerBroken if the copy does not verify. Then, as when this is killed, no backup has a final name.
    """
    folder = folder.absolute()
    if folder.exists() and not folder.is_dir():
        raise BackupError(f"{folder} is not a folder")
    try:
        public_key = _public_key(settings)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(folder):
            _require_room(settings, database, folder)
            draft = Path(mkdtemp(prefix=_DRAFT, dir=folder))
            try:
                return _publish(_draw(settings, database, draft, public_key, progress), folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    except FAILURES as error:
        raise BackupError(f"no backup was made in {folder}: {getattr(error, 'orig', error)}") from error


def kept(folder: Path) -> list[tuple[Path, Manifest]]:
    """List the backups of a folder, oldest first. Files without a readable manifest do not count."""
    found = []
    for path in folder.glob("giro-*.db"):
        with suppress(BackupError):
            found.append((path, read_manifest(path)))
    return sorted(found, key=lambda backup: backup[1].made_at)


def is_due(folder: Path, hours: float) -> bool:
    """Return whether the newest backup of a folder is older than `hours`, or missing.

    Backups dated in the future do not count: the clock was wrong, and there would be no other backup until that time.
    """
    now = to_datetime(now_us())
    ages = [now - manifest.made_at for _, manifest in kept(folder) if manifest.made_at <= now]
    return not ages or min(ages) >= timedelta(hours=hours)


def prune(folder: Path, keep: int, made: Path) -> int:
    """Delete all but the newest `keep` (at least 1) backups of a folder, never the one just `made`; return how many."""
    older = [path for path, _ in kept(folder) if path != made]
    doomed = older[: max(len(older) - (keep - 1), 0)]
    for path in doomed:
        for part in (path, anchors_of(path), manifest_of(path)):
            part.unlink(missing_ok=True)
    return len(doomed)


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a backup; raises BackupError if it is missing or invalid."""
    manifest_path = manifest_of(path)
    try:
        return Manifest.model_validate_json(manifest_path.read_bytes())
    except OSError as error:
        raise BackupError(f"cannot read the manifest {manifest_path} ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BackupError(
            f"{manifest_path} is not a manifest: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None


def manifest_of(path: Path) -> Path:
    """Return the path of a backup's manifest."""
    return path.with_suffix(".json")


def anchors_of(path: Path) -> Path:
    """Return the path of the file with a backup's anchors."""
    return path.with_suffix(f".{ANCHORS}")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits. Not for an open database."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def settings_of(settings: Settings, path: Path) -> Settings:
    """Return the same settings with another file as the database."""
    return settings.model_copy(update={"database_url": f"sqlite+aiosqlite:///{quote(str(path.absolute()))}"})


def require_sound(copy: Database, anchors: Anchors | None, progress: Progress) -> None:
    """Check every page, and then every rule of the ledger; raises LedgerBroken if a check fails."""
    progress("Checking pages", 0, 1)
    if broken := storage.broken_pages(copy):
        raise LedgerBroken(f"{copy.path.name} is damaged: {broken[0]}")
    report = verify(copy, anchors=anchors, progress=lambda done, of: progress("Verifying", done, of or 1))
    if not report.holds:
        first = report.breaches[0]
        raise LedgerBroken(
            f"the ledger in {copy.path.name} breaks its rules in {report.counts.total()} places, "
            f"first {first.rule}: {first.detail}"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let only one process make backups in a folder, and delete the leftovers of a killed process."""
    lock = FileLock(folder / ".lock")
    try:
        if not lock.try_acquire():
            raise BackupError(f"another backup is being made in {folder}")
        for draft in folder.glob(f"{_DRAFT}*"):
            shutil.rmtree(draft, ignore_errors=True)
        for suffix in (".json", f".{ANCHORS}"):
            for part in folder.glob(f"giro-*{suffix}"):
                if not (folder / f"{part.name.removesuffix(suffix)}.db").exists():
                    part.unlink(missing_ok=True)
        yield
    finally:
        lock.close()


def _require_room(settings: Settings, database: Database, folder: Path) -> None:
    """Refuse a backup that does not fit on the disk, or that would leave the service too little room to continue."""
    disk, needed = shutil.disk_usage(folder), database_bytes(database) + wal_bytes(database)
    if folder.stat().st_dev == database.path.parent.stat().st_dev:
        needed += settings.disk_free_mb * 1_000_000
    if disk.free < needed:
        raise BackupError(f"{folder} has {disk.free // 1_000_000} MB free, and a backup needs {needed // 1_000_000}")


def _public_key(settings: Settings) -> bytes | None:
    """Return the key that anchors are checked with; None if there is no key yet and nothing was signed."""
    try:
        return Anchors.at_hand(settings).public_key
    except AnchorKeyMissing as error:
        raise BackupError(str(error)) from None


def _draw(
    settings: Settings, database: Database, draft: Path, public_key: bytes | None, progress: Progress
) -> tuple[Path, Manifest]:
    """Make all files of a backup, complete and verified, in a folder that is not read by others."""
    started, made_at, keys = time.perf_counter(), to_datetime(now_us()), fingerprints(Secrets(settings))
    path = draft / f"giro-{made_at:%Y%m%dT%H%M%S}.{made_at.microsecond // 1000:03}Z.db"
    storage.copy(database, path, lambda done, of: progress("Copying", done, of))
    copy = Database(settings_of(settings, path))
    copy.require_schema()
    anchors_sha256 = _copy_anchors(settings, copy, anchors_of(path))
    anchors = None if public_key is None else Anchors(anchors_of(path), public_key)
    require_sound(copy, anchors, progress)
    with copy.reader.connect() as connection:
        head, counts = storage.head(connection), storage.counts(connection)
    copy.close()
    manifest = Manifest(
        file=path.name,
        made_at=made_at,
        duration_seconds=round(time.perf_counter() - started, 3),
        giro=VERSION,
        schema_revision=str(copy.schema_revision()),
        size_bytes=path.stat().st_size,
        sha256=digest(path),
        head=head,
        counts=counts,
        keys=fingerprints(Secrets(settings))
        | keys,  # cards may have been resealed meanwhile; the newest keys come first
        anchors_sha256=anchors_sha256,
    )
    durable.write(manifest_of(path), f"{manifest.model_dump_json(indent=2)}\n".encode())
    return path, manifest


def _copy_anchors(settings: Settings, copy: Database, target: Path) -> str | None:
    """Copy the anchors of the blocks in the copy. Anchors made since then name blocks that the copy lacks."""
    if not settings.anchor_path.exists():
        return None
    with copy.reader.connect() as connection:
        head = blocks.head(connection).height
    lines = [line for line in file_of_anchors.read(settings.anchor_path) if _is_up_to(head, line)]
    durable.write(target, "".join(f"{line}\n" for line in lines).encode())
    return digest(target)


def _is_up_to(height: int, line: str) -> bool:
    try:
        return from_line(line).height <= height
    except ValueError:
        return False  # torn by a power cut


def _publish(drawn: tuple[Path, Manifest], folder: Path) -> tuple[Path, Manifest]:
    """Give a backup its name. The database comes last: if it is there, the other files are too."""
    draft, manifest = drawn
    final = folder / draft.name
    if final.exists():
        raise BackupError(f"{final} already exists")
    hit("backup.before_names")
    for part in (anchors_of(draft), manifest_of(draft)):
        if part.exists():
            part.rename(folder / part.name)
    hit("backup.between_names")
    draft.rename(final)
    durable.sync(folder)
    return final, manifest
