"""Shipments: what the ledger's log has changed since the last shipment, in small files next to the backups.

A shipment is a file of pages, sealed and signed like a backup, in the folder of its series. A series has no gap: each
shipment names the tick of the one before. A backup names the tick of the last capture before its snapshot, so a restore
applies the shipments with higher ticks, and ends exactly at a commit.
"""

import json
import shutil
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from core.failpoints import hit
from core.files import durable
from core.security.anchor_key import AnchorKey, has_signed
from core.security.sealed_files import SealBroken, seal, unseal
from core.services.backups.manifests import BackupError, kept
from core.storage.sqlite.log import Capture
from core.storage.sqlite.log_reader import NUMBER

FOLDER = "shipments"
CURRENT = "current"
"""The file whose time is when the follower last found nothing that was not shipped."""

_TAG = b"giro.shipment.v1\x00"
_ENDING = ".shipment"


class Header(BaseModel):
    """The first line of a shipment."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    series: str
    tick: int
    """The moment of the capture, in microseconds since the epoch, but always higher than that of the one before."""
    after: int
    """The tick of the shipment before, or of the beginning of the series."""
    shipped_at: datetime
    pages: int
    """The size of the database in pages."""
    page_size: int
    salts: str
    frame: int
    checksum: tuple[int, int]
    """With `salts` and `frame`: where the log ended."""
    sealed: bool
    sha256: str
    """Of the rest of the file, after the line with the signature."""


def write(folder: Path, header: Header, capture: Capture, key: AnchorKey | None, secret: str | None) -> Header:
    """Write a shipment, which is on disk under its name when this returns. Raises OSError."""
    body = capture.body
    if secret is not None:
        target = BytesIO()
        seal(BytesIO(body), target, secret, _purpose(header))
        body = target.getvalue()
    header = header.model_copy(update={"sealed": secret is not None, "sha256": sha256(body).hexdigest()})
    line = header.model_dump_json().encode()
    signature = {} if key is None else {"public_key": key.public.hex(), "signature": key.sign_bytes(_TAG + line).hex()}
    path = folder_of(folder, header.series) / f"{header.tick}{_ENDING}"
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True)
        durable.sync(folder / FOLDER)
        durable.sync(folder)
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    durable.write(draft, b"\n".join([line, json.dumps(signature).encode(), body]))
    hit("ship.before_name")
    draft.rename(path)
    durable.sync(path.parent)
    hit("ship.after_name")
    return header


def folder_of(folder: Path, series: str) -> Path:
    """Return the folder of a series."""
    return folder / FOLDER / series


def current_path(folder: Path) -> Path:
    """Return the file whose time is when everything was last known to be shipped."""
    return folder / FOLDER / CURRENT


def paths_of(folder: Path, series: str, *, after: int) -> list[Path]:
    """Name the shipments of a series with ticks above `after`, in order."""
    found = ((int(path.stem), path) for path in folder_of(folder, series).glob(f"*{_ENDING}") if path.stem.isdigit())
    return [path for tick, path in sorted(found) if tick > after]


def read_header(path: Path) -> Header:
    """Read the first line of a shipment. Raises BackupError."""
    try:
        with path.open("rb") as file:
            return Header.model_validate_json(file.readline())
    except (OSError, ValidationError) as error:
        raise BackupError(
            f"{path} is not a shipment: {getattr(error, 'strerror', 'its first line is damaged')}"
        ) from None


def newest(folder: Path) -> Header | None:
    """Return the header of the newest shipment that continues the newest backup; None if it is missing."""
    for _, manifest in reversed(kept(folder)):
        if manifest.last_capture is not None:
            series, _ = manifest.last_capture
            found = paths_of(folder, series, after=0)
            return read_header(found[-1]) if found else None
    return None


def check(path: Path, after: int, trusted: bytes | None) -> tuple[Header, bytes]:
    """Check that a shipment follows the one with the tick `after`, its digest and, if there is a key, its signature.

    Returns the header and the body, which may be sealed. Raises BackupError.
    """
    header = read_header(path)
    line, signature, body = path.read_bytes().split(b"\n", 2)
    if header.after > after or header.tick != int(path.stem) or header.series != path.parent.name:
        raise BackupError(f"a shipment before {path} is missing")
    if sha256(body).hexdigest() != header.sha256:  # nosemgrep: secrets-are-compared-in-constant-time - a public digest
        raise BackupError(f"{path} does not match its digest")
    if trusted is not None:
        try:
            signed = bytes.fromhex(json.loads(signature)["signature"])
        except (ValueError, KeyError, TypeError):
            raise BackupError(f"{path} is not signed") from None
        if not has_signed(trusted, signed, _TAG + line):
            raise BackupError(f"{path} does not match its signature")
    return header, body


def apply(database: Path, path: Path, header: Header, body: bytes, secret: str | None) -> None:
    """Write the pages of a checked shipment into a database file that is not open. Raises BackupError."""
    if header.sealed:
        if secret is None:
            raise BackupError(f"{path} is sealed, and there is no backup key here: put `backup_key` into `secrets`")
        plain = BytesIO()
        try:
            unseal(BytesIO(body), plain, secret, _purpose(header))
        except SealBroken as error:
            raise BackupError(f"{path} cannot be opened: {error}") from None
        body = plain.getvalue()
    with database.open("r+b") as file:
        for number, page in _pages(body, header.page_size):
            if number <= header.pages:
                file.seek((number - 1) * header.page_size)
                file.write(page)
        file.truncate(header.pages * header.page_size)


def prune(folder: Path, current: str | None) -> int:
    """Delete shipments that no backup needs, and return how many. The newest of the `current` series stays."""
    needed: dict[str, int] = {}
    for _, manifest in kept(folder):
        if manifest.last_capture is not None:
            series, tick = manifest.last_capture
            needed[series] = min(tick, needed.get(series, tick))
    deleted = 0
    for place in (folder / FOLDER).glob("*/"):
        found = paths_of(folder, place.name, after=0)
        if place.name not in needed and place.name != current:
            deleted += len(found)
            shutil.rmtree(place, ignore_errors=True)
            continue
        for path in found[:-1]:
            if int(path.stem) <= needed.get(place.name, 0):
                path.unlink(missing_ok=True)
                deleted += 1
    return deleted


def _pages(body: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    step = NUMBER.size + size
    if len(body) % step:
        raise BackupError("a shipment ends in the middle of a page")
    for place in range(0, len(body), step):
        yield NUMBER.unpack_from(body, place)[0], body[place + NUMBER.size : place + step]


def _purpose(header: Header) -> str:
    return f"shipment seal {header.series} {header.tick}"
