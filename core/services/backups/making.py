"""Backups: one file with the whole ledger, verified before it gets its name, and a manifest next to it."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import quote

from core import VERSION
from core.clock import now_us, to_datetime
from core.domain.anchors import from_line
from core.failpoints import hit
from core.files import append_only as file_of_anchors
from core.files import durable
from core.files.locks import FileLock
from core.security.anchor_key import AnchorKey
from core.security.fingerprints import fingerprints
from core.security.sealed_files import seal
from core.security.secrets import Secrets
from core.services.backups import manifests
from core.services.backups.manifests import (
    ANCHORS,
    SEALED,
    BackupError,
    LedgerBroken,
    Manifest,
    anchors_of,
    backups_in,
    digest,
    kept,
    parts_of,
)
from core.services.verification import AnchorKeyMissing, Anchors, verify
from core.settings import Settings
from core.storage import blocks
from core.storage.engines import DATABASE_ERRORS, Engine
from core.storage.sqlite import copying as storage
from core.storage.sqlite.engine import Database

FAILURES: tuple[type[Exception], ...] = (OSError, *DATABASE_ERRORS)
"""Errors of the disk and the database. Any other error is a bug in this module."""

PURPOSE = "backup seal"
"""What sealed backups are sealed for (core/security/sealed_files.py)."""

_DRAFT = ".making-"

Progress = Callable[[str, int, int], None]
"""Called now and then with the current step, how much of it is done, and the total."""


def make(settings: Settings, database: Engine, folder: Path, progress: Progress) -> tuple[Path, Manifest]:
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
            source = file_of(database)
            _require_room(settings, source, folder)
            with _drafts(settings, source, folder) as drafts:
                return _publish(_draw(settings, source, drafts, public_key, progress), folder)
    except FAILURES as error:
        raise BackupError(f"no backup was made in {folder}: {getattr(error, 'orig', error)}") from error


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
        for part in parts_of(path):
            part.unlink(missing_ok=True)
    return len(doomed)


def file_of(database: Engine) -> Database:
    """Return a database as the file that it is. Raises BackupError for another engine, which has its own tools."""
    if not isinstance(database, Database):
        raise BackupError(f"Giro makes no backups of {database.product}: use its own tools")
    return database


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
        whole = {part for path in backups_in(folder) for part in parts_of(path)}
        for suffix in (".json", ".sig", f".{ANCHORS}"):
            for part in folder.glob(f"giro-*{suffix}"):
                if part not in whole:
                    part.unlink(missing_ok=True)
        yield
    finally:
        lock.close()


@contextmanager
def _drafts(settings: Settings, database: Database, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the folder in which a backup gets its form, and the folder of the copy that is not sealed.

    If backups are sealed, that copy stays with the database: their own folder may be on a disk of somebody else.
    """
    with ExitStack() as stack:
        draft = Path(mkdtemp(prefix=_DRAFT, dir=folder))
        stack.callback(shutil.rmtree, draft, ignore_errors=True)
        if Secrets(settings).backup_key.find() is None:
            yield draft, draft
            return
        lock = FileLock(database.path.with_name(f"{database.path.name}.sealing.lock"))
        stack.callback(lock.close)
        if not lock.try_acquire():
            raise BackupError(f"another sealed backup of {database.path} is being made")
        plain = database.path.with_name(f"{database.path.name}.sealing")
        shutil.rmtree(plain, ignore_errors=True)  # of a killed process
        plain.mkdir(mode=0o700)
        stack.callback(shutil.rmtree, plain, ignore_errors=True)
        yield draft, plain


def _require_room(settings: Settings, database: Database, folder: Path) -> None:
    """Refuse a backup that does not fit on the disk, or that would leave the service too little room to continue."""
    copies = {folder: 1} if Secrets(settings).backup_key.find() is None else {folder: 1, database.path.parent: 1}
    here, sizes = database.path.parent.stat().st_dev, database.sizes()
    if len(copies) == 2 and folder.stat().st_dev == here:
        copies = {folder: 2}
    for place, count in copies.items():
        needed = count * (sizes.database + sizes.log)
        if place.stat().st_dev == here:
            needed += settings.disk_free_mb * 1_000_000
        free = shutil.disk_usage(place).free
        if free < needed:
            raise BackupError(f"{place} has {free // 1_000_000} MB free, and a backup needs {needed // 1_000_000}")


def _public_key(settings: Settings) -> bytes | None:
    """Return the key that anchors are checked with; None if there is no key yet and nothing was signed."""
    try:
        return Anchors.at_hand(settings).public_key
    except AnchorKeyMissing as error:
        raise BackupError(str(error)) from None


def _draw(
    settings: Settings,
    database: Database,
    drafts: tuple[Path, Path],
    public_key: bytes | None,
    progress: Progress,
) -> tuple[Path, Manifest]:
    """Make all files of a backup, complete, verified and sealed, in a folder that is not read by others."""
    draft, plain = drafts
    started, made_at, keys = time.perf_counter(), to_datetime(now_us()), fingerprints(Secrets(settings))
    name = f"giro-{made_at:%Y%m%dT%H%M%S}.{made_at.microsecond // 1000:03}Z.db"
    last_capture = storage.copy(database, plain / name, lambda done, of: progress("Copying", done, of))
    copy = Database(settings_of(settings, plain / name))
    copy.require_schema()
    anchors_sha256 = _copy_anchors(settings, copy, anchors_of(draft / name))
    anchors = None if public_key is None else Anchors(anchors_of(draft / name), public_key)
    require_sound(copy, anchors, progress)
    with copy.reading() as connection:
        head, counts = storage.head(connection), storage.counts(connection)
    copy.close()
    path = _seal(settings, plain / name, draft, progress)
    manifest = Manifest(
        file=path.name,
        made_at=made_at,
        duration_seconds=round(time.perf_counter() - started, 3),
        giro=VERSION,
        schema_revision=str(copy.schema_revision()),
        size_bytes=path.stat().st_size,
        sha256=digest(path),
        sealed=path.suffix == SEALED,
        head=head,
        counts=counts,
        keys=fingerprints(Secrets(settings))
        | keys,  # cards may have been resealed meanwhile; the newest keys come first
        anchors_sha256=anchors_sha256,
        last_capture=last_capture,
    )
    anchor_key = Secrets(settings).anchor_key.find()
    manifests.write(path, manifest, None if anchor_key is None else AnchorKey(anchor_key))
    return path, manifest


def _seal(settings: Settings, copy: Path, draft: Path, progress: Progress) -> Path:
    """Seal a copy, if there is a key for that, and return the file that becomes the backup."""
    secret = Secrets(settings).backup_key.find()
    if secret is None:
        return copy
    progress("Sealing", 0, 1)
    target = draft / f"{copy.name}{SEALED}"
    durable.write(target, b"")
    with copy.open("rb") as source, target.open("wb") as sealed:
        seal(source, sealed, secret, PURPOSE)
    durable.sync(target)
    return target


def _copy_anchors(settings: Settings, copy: Database, target: Path) -> str | None:
    """Copy the anchors of the blocks in the copy. Anchors made since then name blocks that the copy lacks."""
    if not settings.anchor_path.exists():
        return None
    with copy.reading() as connection:
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
    for part in parts_of(draft)[1:]:
        if part.exists():
            part.rename(folder / part.name)
    hit("backup.between_names")
    draft.rename(final)
    durable.sync(folder)
    return final, manifest
