"""The data folder: made if it is missing, and checked before anything is started on it."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from core.settings import Settings, SettingsError, variable

RESERVE_BYTES = 1_000_000


def require_data_folder(settings: Settings) -> None:
    """Make the data folder if it is missing, and check that this process may write to its content.

    Raises SettingsError with one line that names the owner and the fix.
    """
    folder = settings.data_dir.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{variable('data_dir')}: cannot make {error.filename} ({error.strerror})") from None
    if is_read_only(folder):
        return  # reads work, and the health of the service says that writes do not
    _keep_reserve(settings)
    database, secrets = settings.database_path, settings.secrets_dir
    for path in (folder, secrets, settings.run_dir, database.parent, database):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)):
            raise SettingsError(_how_to_fix(path, folder))
    with suppress(OSError):
        secrets.chmod(0o700)  # a folder that was made by hand or by Docker is open to all users


def is_read_only(path: Path) -> bool:
    """Return whether a file system accepts no writes at all."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _keep_reserve(settings: Settings) -> None:
    """Keep a little room on the disk for a start on a full one, where SQLite needs some files even to read.

    The reserve is given up when the disk is full, and made again when there is room.
    """
    reserve = settings.run_dir / "reserve"
    free = shutil.disk_usage(settings.data_dir).free
    with suppress(OSError):
        if free < RESERVE_BYTES:
            reserve.unlink(missing_ok=True)
        elif free > 20 * RESERVE_BYTES and not reserve.exists():
            settings.run_dir.mkdir(mode=0o700, exist_ok=True)
            reserve.write_bytes(os.urandom(RESERVE_BYTES))  # a file system could compress zeros
            reserve.chmod(0o600)


def _how_to_fix(path: Path, folder: Path) -> str:
    owner, me = path.stat(), f"{os.geteuid()}:{os.getegid()}"
    return (
        f"{variable('data_dir')}: {path} belongs to {owner.st_uid}:{owner.st_gid}, and Giro runs as {me} and may not "
        f"write there: `chown -R {me} {folder}` (in containers this is ./data of the host; "
        "or set GIRO_UID and GIRO_GID to those of its owner)"
    )
