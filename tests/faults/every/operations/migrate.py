"""`giro migrate` of a ledger of an early version, through several migrations, and the making of secrets."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from core import failpoints
from core.failpoints import StruckError
from core.security.card_vault import CardVault
from core.security.secrets import Secrets
from core.security.token_keys import TokenKeys
from core.settings import Settings
from core.storage.engines import SCHEMA_REVISION
from core.storage.sqlite import migrating
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import checkpoint
from tests.faults.every.operation import DONE, Said, Tell, unsound
from tests.faults.every.operations.commands import giro
from tests.old_ledger import MADE_AT, make_old_ledger, upgrade

ROWS = 2
"""Number of rows in a chunk, so that the small ledger moves with several commits."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Every row, before the migration and after each of its commits."""

    states: list[list[str]]


def prepare(settings: Settings) -> Facts:
    """Make the old ledger, and learn from a copy what the migration makes of it."""
    make_old_ledger(settings)
    database = Database(settings)
    checkpoint(database)
    old, states = settings.database_path.read_bytes(), [_content(settings.database_path)]
    failpoints.arm("migrate.after_commit=raise")
    while database.schema_revision() != SCHEMA_REVISION:
        with _as_always(), suppress(StruckError):
            upgrade(settings, "head")
        states.append(_content(settings.database_path))
    failpoints.arm(None)
    database.close()
    for path in settings.database_path.parent.glob(f"{settings.database_path.name}*"):
        path.unlink()
    settings.database_path.write_bytes(old)
    return Facts(states)


def do(_settings: Settings, _facts: Facts, tell: Tell) -> None:
    """Migrate once. An operator reads the message, and types the command again."""
    with _as_always():
        giro(tell, "migrate")


def judge(settings: Settings, facts: Facts, told: Sequence[Said]) -> list[str]:
    """The ledger is in one of the states that the migration commits, and a second migration finishes."""
    content, after = _content(settings.database_path), facts.states[-1]
    found = ["the ledger is in no state that the migration commits"] * (content not in facts.states)
    if told and told[-1]["what"] == DONE and content != after:
        found.append("the migration was said to be done, and is not")
    again: list[str] = []
    with _as_always():
        giro(lambda what, **_: again.append(what), "migrate")
    if again != [DONE]:
        found.append(f"the second migration: {again}")
    if _content(settings.database_path) != after:
        found.append(f"after the second migration, the ledger is not that of {SCHEMA_REVISION}")
    TokenKeys(secrets := Secrets(settings))
    CardVault(secrets)
    return found + unsound(settings)


def _content(database: Path) -> list[str]:
    """Read the schema and every row."""
    with closing(sqlite3.connect(f"file:{database}?mode=rw", uri=True)) as raw:
        tables = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        queries = ["SELECT type, name, sql FROM sqlite_master", *(f"SELECT '{name}', * FROM {name}" for name in tables)]
        return sorted(str(row) for query in queries for row in raw.execute(query))


@contextmanager
def _as_always() -> Iterator[None]:
    """Let a migration always write the same time, and commit in the same places."""
    with patch("time.time_ns", lambda: MADE_AT * 1000), patch.object(migrating, "ROWS", ROWS):
        yield
