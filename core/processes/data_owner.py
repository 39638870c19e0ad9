"""The start of the container that migrates: `python -m core.processes.data_owner UID:GID COMMAND...`.

It starts as root, gives the data folder to the user that the service runs as, and then runs COMMAND as that user. So a
fresh clone needs no preparation, whichever user made it, and no other container ever runs as root.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

CANNOT_START = 2
LARGEST_ID = 2**31 - 1
"""Docker does not accept larger numbers."""
QUEUE_FOLDERS = ("secrets/redis",)
"""Folders that Compose mounts into the queue's container. Docker would make missing ones, with root as the owner."""


def start(owner: str, *command: str) -> NoReturn:
    """Give the folder of GIRO_DATA_DIR to an owner (`UID:GID`), and run the command as that owner.

    If another user than root starts it, nothing is given, and the user stays the same. It exits with status 2 and one
    line with the reason if the owner is root or is not two numbers, or if this process may not become the owner.
    """
    os.umask(0o077)
    folder = Path(os.environ["GIRO_DATA_DIR"])
    try:
        uid, gid = parse_owner(owner)
        if os.getuid() == 0:
            _say_what_was_given(folder, owner, *give(folder, uid, gid))
            become(uid, gid)
    except (ValueError, PermissionError) as error:
        print(f"giro: {error}", file=sys.stderr)
        sys.exit(CANNOT_START)
    with suppress(OSError):  # the command reports more clearly why nothing can be made there
        for name in QUEUE_FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
    os.execvp(command[0], command)  # nosec B606 # a list of words, and no shell


def parse_owner(text: str) -> tuple[int, int]:
    """Read `UID:GID`. Raises ValueError unless both are numbers that Docker accepts, and the user is not root."""
    ids = re.fullmatch(r"(\d{1,10}):(\d{1,10})", text, re.ASCII)
    if ids is None or max(int(ids[1]), int(ids[2])) > LARGEST_ID:
        raise ValueError(f"GIRO_UID and GIRO_GID must be numbers up to {LARGEST_ID}, not {text}")
    if int(ids[1]) == 0:
        raise ValueError(
            "GIRO_UID must not be 0: the service never runs as root. Name another user, or leave GIRO_UID out and the "
            "service runs as user 1000; migrate gives ./data to that user"
        )
    return int(ids[1]), int(ids[2])


def give(folder: Path, uid: int, gid: int) -> tuple[int, OSError | None]:
    """Give a folder and everything in it to a user and a group. Files that the user already owns keep their group.

    Links are not followed, so nothing outside the folder changes. Returns how many files and folders were given, and
    the error, with its path, of the first one that could not be given.
    """
    given, failure = 0, None
    for path, name, parent in _everything(folder):
        try:
            if os.stat(name, dir_fd=parent, follow_symlinks=False).st_uid != uid:
                os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
                given += 1
        except FileNotFoundError:
            pass  # a running service removes files at any time
        except OSError as error:
            failure = failure or OSError(error.errno, error.strerror, str(Path(path, name)))
    return given, failure


def become(uid: int, gid: int) -> None:
    """Give up root permanently. Raises PermissionError if the container or its user namespace does not allow that."""
    try:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    except OSError as error:
        raise PermissionError(f"migrate cannot go on as {uid}:{gid} ({error.strerror})") from None


def _everything(folder: Path) -> Iterator[tuple[str, str, int | None]]:
    """Yield path, name and open parent folder of everything, each folder before its content.

    A folder that cannot be listed is skipped: on a network drive, root may not be allowed to read a user's folder.
    """
    yield "", str(folder), None
    with suppress(OSError):
        for path, folders, files, descriptor in os.fwalk(folder):
            for name in (*folders, *files):
                yield path, name, descriptor


def _say_what_was_given(folder: Path, owner: str, given: int, failure: OSError | None) -> None:
    if given:
        print(f"giro: gave {folder} to {owner} (files and folders that were another user's: {given})", flush=True)
    if failure is not None:
        said = f"cannot give {failure.filename} to {owner} ({failure.strerror})"
        print(f"giro: {said}: network drives and user namespaces may forbid it", file=sys.stderr, flush=True)


if __name__ == "__main__":
    start(*sys.argv[1:])
