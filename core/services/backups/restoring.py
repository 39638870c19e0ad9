"""Restoring a backup after the ledger was lost."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import mkdtemp

from sqlalchemy import Connection

from core.domain.audit import Action, Author
from core.files import durable
from core.security.anchor_key import AnchorKey
from core.security.card_vault import CardVault
from core.security.fingerprints import ANCHOR_KEY, CARD_INDEX_KEY, CARD_KEY, fingerprints
from core.security.sealed_files import SealBroken, unseal
from core.security.secrets import Secrets
from core.security.token_keys import TokenKeys
from core.services import token_keys
from core.services.audit import write_down
from core.services.backups import making, manifests, shipments
from core.services.backups.making import FAILURES, PURPOSE, Progress
from core.services.backups.manifests import BackupError, Manifest
from core.services.backups.shipments import Header
from core.services.cards.keys import check_keys
from core.services.identity import sessions
from core.services.identity.erasures import came_back
from core.services.identity.sessions import Ended
from core.services.verification import Anchors
from core.settings import Settings
from core.storage.sqlite import copying as storage
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work

_DRAFT = ".restoring-"

EFFECTS = {ANCHOR_KEY: "anchors of that time can only be checked with the old key"}
"""The effect of a key that differs from the backup's, for each key that the ledger does not need."""


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of a restore, with warnings for the operator."""

    manifest: Manifest
    migrated: bool
    sessions: Ended
    token_keys_rotated: bool
    """False if the keys are a setting, or missing here."""
    shipments: int
    """Shipments that were applied to the backup."""
    up_to: datetime
    """Everything that was answered before is in the ledger."""
    warnings: list[str] = field(default_factory=list)


def restore(
    settings: Settings,
    file: Path,
    author: Author,
    progress: Progress,
    *,
    migrate: Callable[[Settings], None] | None = None,
    public_key: bytes | None = None,
    unsigned: bool = False,
    until: int | None = None,
) -> Restored:
    """Restore a backup into a data folder without a ledger. Nothing may run on that folder.

    Everything is checked on a copy, which gets the database's name last. If the restore is interrupted, the folder has
    either the whole ledger or none. `migrate` brings an older ledger to this schema. The backup must be signed with
    `public_key`, or else with the anchor key of this folder, unless `unsigned` accepts it without that. All sessions
    end.

    Raises BackupError if the folder is not empty or the backup does not match its manifest, LedgerBroken if it does not
    verify, SettingsError if the keys do not fit, and DatabaseError for another schema.
    """
    manifest = manifests.read_manifest(file)
    require_empty(settings, file, manifest)
    warnings = _require_signed(settings, file, public_key, unsigned=unsigned)
    require_intact(file, manifest)
    warnings += _require_keys(settings, manifest)
    try:
        with _draft_beside(settings.database_path) as draft:
            _open(settings, file, manifest, draft)
            applied = _apply_shipments(
                settings, file, manifest, draft, trusted=_trusted(settings, public_key, unsigned=unsigned), until=until
            )
            here = making.settings_of(settings, draft)
            database = Database(here)
            migrated = _bring_up_to_date(database, here, manifest, migrate)
            making.require_sound(database, _anchors(settings, file, manifest), progress)
            if applied or manifest.counts.get("cards"):
                check_keys(database, CardVault(Secrets(here)))
            ended, back = _reopen(database, settings, manifest, author, file.absolute().parent)
            rotated = _rotate_token_keys(database, settings, author)
            database.close()
            storage.require_one_piece(draft)
            _publish(settings, file, manifest, draft)
    except FAILURES as error:
        raise BackupError(f"nothing was restored: {getattr(error, 'orig', error)}") from error
    return Restored(
        manifest=manifest,
        migrated=migrated,
        sessions=ended,
        token_keys_rotated=rotated,
        shipments=len(applied),
        up_to=applied[-1].shipped_at if applied else manifest.made_at,
        warnings=warnings + ended.warnings + back,
    )


def require_empty(settings: Settings, file: Path, manifest: Manifest) -> None:
    """Raise BackupError if the folder has data, and name the file. Keys and backups may be in it."""
    database, anchors = settings.database_path, settings.anchor_path
    for path in (database, *(database.with_name(f"{database.name}-{log}") for log in ("wal", "shm", "journal"))):
        if path.exists():
            raise BackupError(f"{path} exists: a backup is only restored to an empty data folder; move it away first")
    # nosemgrep: secrets-are-compared-in-constant-time - the digest of a file authenticates nobody
    if anchors.exists() and manifests.digest(anchors) != manifest.anchors_sha256:
        raise BackupError(f"{anchors} exists, and is not that of {file.name}: it is evidence; move it away first")


def require_intact(file: Path, manifest: Manifest) -> None:
    """Raise BackupError unless the digests of a backup's files match its manifest."""
    parts = {file: manifest.sha256}
    if manifest.anchors_sha256:
        parts[manifests.anchors_of(file)] = manifest.anchors_sha256
    for path, expected in parts.items():
        try:
            found = manifests.digest(path)
        except OSError as error:
            raise BackupError(f"cannot read {path} ({error.strerror})") from None
        if found != expected:
            raise BackupError(f"{path} does not match its manifest (SHA-256 {found}); take another backup")


def _require_signed(settings: Settings, file: Path, trusted: bytes | None, *, unsigned: bool) -> list[str]:
    """Raise BackupError unless a backup is signed with a key that is trusted here. Returns warnings.

    The key in the signature proves nothing by itself, since anybody can make one. A signature that does not fit is
    never accepted.
    """
    if trusted is None and (secret := Secrets(settings).anchor_key.find()):
        trusted = AnchorKey(secret).public
    signer = manifests.signer_of(file)
    if signer is None:
        problem = f"{file} is not signed"
    elif trusted is None:
        problem = f"no key here can check the signature of {file}"
    elif signer != trusted:
        problem = f"{file} is signed with another key ({signer.hex()})"
    else:
        return []
    if unsigned:
        return [f"{problem}: nothing but its folder vouches for it"]
    raise BackupError(
        f"{problem}: put the anchor key into the data folder's `secrets`, or give --public-key; --unsigned restores it "
        "all the same, if only you can have written to its folder"
    )


def _trusted(settings: Settings, public_key: bytes | None, *, unsigned: bool) -> bytes | None:
    """Return the key that shipments must be signed with; None if the operator accepts them unsigned."""
    if unsigned:
        return None
    secret = Secrets(settings).anchor_key.find()
    return public_key or (AnchorKey(secret).public if secret else None)


def _apply_shipments(
    settings: Settings, file: Path, manifest: Manifest, draft: Path, *, trusted: bytes | None, until: int | None
) -> list[Header]:
    """Apply the shipments that continue a backup, up to the tick `until`.

    Nothing is skipped: one that is damaged or missing raises BackupError.
    """
    if manifest.last_capture is None:
        return []
    series, after = manifest.last_capture
    secret, applied = Secrets(settings).backup_key.find(), []
    for path in shipments.paths_of(file.absolute().parent, series, after=after):
        if until is not None and int(path.stem) > until:
            break
        try:
            header, body = shipments.check(path, after, trusted)
            shipments.apply(draft, path, header, body, secret)
        except BackupError as error:
            raise BackupError(f"{error}; --until {after} restores what was shipped before") from None
        after = header.tick
        applied.append(header)
    return applied


def _require_keys(settings: Settings, manifest: Manifest) -> list[str]:
    """Raise BackupError if a card key is missing: a new random key could not open any card. Returns warnings."""
    present = fingerprints(Secrets(settings))
    if manifest.counts.get("cards"):
        for what, missing in (
            ("card keys", not any(name.startswith(CARD_KEY) for name in present)),
            ("card index key", CARD_INDEX_KEY not in present),
        ):
            if missing:
                raise BackupError(
                    f"there are {manifest.counts['cards']} cards in {manifest.file}, and no {what} here: put the keys "
                    "that were kept apart into the data folder's `secrets`, or set them"
                )
    return [
        f"the {name} is not that of the backup: {meaning}"
        for name, meaning in EFFECTS.items()
        if (expected := _newest(name, manifest.keys)) and expected not in present.values()
    ]


def _newest(name: str, keys: Mapping[str, str]) -> str | None:
    """Return the fingerprint of a key. If the key has several versions, the newest comes first."""
    return next((value for key, value in keys.items() if key == name or key.startswith(f"{name}_")), None)


def _anchors(settings: Settings, file: Path, manifest: Manifest) -> Anchors | None:
    """Return the backup's anchors, if it has any and the key that signed them is in this data folder."""
    key_is_here = (
        ANCHOR_KEY in manifest.keys and fingerprints(Secrets(settings)).get(ANCHOR_KEY) == manifest.keys[ANCHOR_KEY]
    )
    if not manifest.anchors_sha256 or not key_is_here:
        return None
    return Anchors(manifests.anchors_of(file), Anchors.of(settings).public_key)


@contextmanager
def _draft_beside(database: Path) -> Iterator[Path]:
    """Yield a path at which the database can be prepared, on the disk of its final place."""
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in database.parent.glob(f"{_DRAFT}*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(mkdtemp(prefix=_DRAFT, dir=database.parent))
    try:
        yield folder / database.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _open(settings: Settings, file: Path, manifest: Manifest, target: Path) -> None:
    """Copy the database of a backup, and open its seal."""
    if not manifest.sealed:
        _copy(file, target)
        return
    secret = Secrets(settings).backup_key.find()
    if secret is None:
        raise BackupError(f"{file} is sealed, and there is no backup key here: put `backup_key` into `secrets`")
    durable.write(target, b"")
    try:
        with file.open("rb") as source, target.open("wb") as plain:
            unseal(source, plain, secret, PURPOSE)
    except SealBroken as error:
        raise BackupError(f"{file} cannot be opened: {error}") from None


def _copy(file: Path, target: Path) -> None:
    target.touch(mode=0o600, exist_ok=False)
    shutil.copyfile(file, target)


def _bring_up_to_date(
    database: Database, here: Settings, manifest: Manifest, migrate: Callable[[Settings], None] | None
) -> bool:
    """Migrate an older ledger to this schema, and return whether that was needed."""
    revision = database.schema_revision()
    database.refuse_newer_schema(revision)
    if database.is_current(revision):
        return False
    if migrate is None:
        raise BackupError(f"{manifest.file} is at migration {revision}: restore it with --migrate")
    migrate(here)
    return True


def _reopen(
    database: Database, settings: Settings, manifest: Manifest, author: Author, beside: Path
) -> tuple[Ended, list[str]]:
    """Record the restore, and end all sessions, in one unit of work. Returns that, and warnings."""
    erased, excluded = settings.erasures_path, settings.exclusions_path
    with unit_of_work(database) as connection:
        ended = sessions.end_all(connection, author, excluded, [beside / excluded.name])
        made_at = manifest.made_at.isoformat()
        write_down(
            connection,
            author,
            Action.BACKUP_RESTORED,
            file=manifest.file,
            made_at=made_at,
            sessions_of=ended.users,
            excluded=ended.excluded,
        )
        return ended, _who_is_back(connection, (erased, beside / erased.name))


def _rotate_token_keys(database: Database, settings: Settings, author: Author) -> bool:
    """Replace the keys that sign access tokens, if they are in this data folder. Missing ones are made at the start."""
    secrets = Secrets(settings)
    if not secrets.token_keys.is_kept or not secrets.token_keys.path.exists():
        return False
    token_keys.rotate(database, TokenKeys(secrets), author, token_seconds=settings.access_token_seconds, at_once=True)
    return True


def _who_is_back(connection: Connection, lists: Sequence[Path]) -> list[str]:
    """Return warnings about erased users whom this backup has brought back, by the lists of erased users."""
    warnings = []
    for file in lists:
        try:
            count = came_back(connection, file)
        except (OSError, ValueError) as error:
            warnings.append(f"{file} is not a list of erased users: {error}")
            continue
        if count:
            warnings.append(f"{count} erased users are back: `giro operator erase --again {file}` erases them again")
    return warnings


def _publish(settings: Settings, file: Path, manifest: Manifest, draft: Path) -> None:
    """Move all files into place, the database last."""
    if manifest.anchors_sha256:
        anchors = settings.anchor_path
        anchors.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = anchors.with_name(f"{anchors.name}.restoring")
        beside.unlink(missing_ok=True)
        _copy(manifests.anchors_of(file), beside)
        durable.sync(beside)
        beside.rename(anchors)
        durable.sync(anchors.parent)
    durable.sync(draft)
    # A hard link, not a rename: it fails instead of overwriting a database that was made in the meantime.
    settings.database_path.hardlink_to(draft)
    durable.sync(settings.database_path.parent)
