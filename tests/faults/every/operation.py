"""What an operation is, and what its process and its judge share."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from core.cli import apply_migrations
from core.services.verification import verify
from core.settings import Settings
from core.storage.sqlite.engine import Database

TRIES = 3
"""A service tries again after a failure, and so does an operation."""

type Said = dict[str, Any]
"""One thing that the process was told: `what`, and details."""

type Tell = Callable[..., None]
"""Writes down one thing that the process was told. It survives the process."""

DONE, UNAVAILABLE, UNKNOWN, CRASHED = "done", "unavailable", "outcome_unknown", "crashed"
"""The words for `what` that a table can count. `unavailable` promises that nothing was done."""


class Operation(Protocol):
    """One thing that Giro does with its data folder. Each operation is a module."""

    def prepare(self, settings: Settings) -> Any:
        """Fill an empty data folder, and return the facts about it that the other functions need."""

    def do(self, settings: Settings, facts: Any, tell: Tell) -> None:
        """Do it, in a process in which a call fails, and tell each answer."""

    def judge(self, settings: Settings, facts: Any, told: Sequence[Said]) -> list[str]:
        """Look at what is left, do it once more without a fault, and return the findings."""


def new_database(settings: Settings) -> Database:
    """Make an empty database at the newest migration."""
    apply_migrations(settings)
    return Database(settings)


def tell_into(path: Path) -> Tell:
    """Return a function that appends to a file; each line is with the kernel when the function returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def tell(what: str, **details: Any) -> None:
        os.write(descriptor, f"{json.dumps({'what': what, **details})}\n".encode())

    return tell


def heard(path: Path) -> list[Said]:
    """Read everything that was told."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def unsound(settings: Settings) -> list[str]:
    """Open the database as a start does, and return what its verification finds."""
    database = Database(settings)
    try:
        database.require_schema()
        return [f"{breach.rule}: {breach.detail}" for breach in verify(database).breaches]
    except Exception as error:
        return [f"it does not open: {type(error).__name__}: {error}"]
    finally:
        database.close()
