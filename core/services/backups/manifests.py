"""The manifest next to each backup, its signature, and the names of a backup's files."""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from hashlib import file_digest
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from core.files import durable
from core.security.anchor_key import AnchorKey, has_signed

ANCHORS = "anchors.jsonl"
"""The end of the name of the file next to a backup that contains the anchors of the backup's blocks."""

SEALED = ".sealed"
"""The end of the name of an encrypted backup."""

_TAG = b"giro.backup.v1\x00"


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
    sealed: bool = False
    """Whether the file is encrypted (core/security/sealed_files.py). Size and SHA-256 are those of the file."""
    head: dict[str, int]
    counts: dict[str, int]
    keys: dict[str, str]
    """Fingerprints (core/security/fingerprints.py) of the keys at that time. A backup never contains the keys."""
    anchors_sha256: str | None
    """The SHA-256 of the file with the anchors; None if there was no such file."""
    last_capture: tuple[str, int] | None = None
    """The series and the tick of the last shipment before this backup (core/services/backups/shipments.py)."""


def write(path: Path, manifest: Manifest, key: AnchorKey | None) -> None:
    """Write the manifest of a backup and, if there is a key, its signature."""
    text = f"{manifest.model_dump_json(indent=2)}\n".encode()
    durable.write(manifest_of(path), text)
    if key is not None:
        signature = {"public_key": key.public.hex(), "signature": key.sign_bytes(_TAG + text).hex()}
        durable.write(signature_of(path), f"{json.dumps(signature)}\n".encode())


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


def signer_of(path: Path) -> bytes | None:
    """Return the public key (Ed25519) that a backup's manifest is signed with; None if it has no signature.

    The manifest has the digests of the other files, so the signature covers them too. Raises BackupError if the
    signature does not fit the manifest.
    """
    file = signature_of(path)
    try:
        found = json.loads(file.read_bytes())
        public_key, signature = (bytes.fromhex(found[name]) for name in ("public_key", "signature"))
        text = manifest_of(path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BackupError(f"cannot read {file} ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise BackupError(f"{file} is not a signature") from None
    if len(public_key) != 32 or not has_signed(public_key, signature, _TAG + text):
        raise BackupError(f"{manifest_of(path)} does not match its signature: one of them was changed")
    return public_key


def kept(folder: Path) -> list[tuple[Path, Manifest]]:
    """List the backups of a folder, oldest first. Files without a readable manifest do not count."""
    found = []
    for path in backups_in(folder):
        with suppress(BackupError):
            found.append((path, read_manifest(path)))
    return sorted(found, key=lambda backup: backup[1].made_at)


def backups_in(folder: Path) -> Iterator[Path]:
    """Name the files of a folder that are called like a backup."""
    for ending in ("", SEALED):
        yield from folder.glob(f"giro-*.db{ending}")


def parts_of(path: Path) -> tuple[Path, ...]:
    """Return the paths that the files of a backup can have, its database first."""
    return path, signature_of(path), anchors_of(path), manifest_of(path)


def manifest_of(path: Path) -> Path:
    """Return the path of a backup's manifest."""
    return _beside(path, ".json")


def anchors_of(path: Path) -> Path:
    """Return the path of the file with a backup's anchors."""
    return _beside(path, f".{ANCHORS}")


def signature_of(path: Path) -> Path:
    """Return the path of the signature of a backup's manifest."""
    return _beside(path, ".sig")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits. Not for an open database."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name.removesuffix(SEALED).removesuffix('.db')}{ending}")
