"""Bits that fell over in the file: each is found, refused in one line, or hit nothing that the ledger says."""

import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.cli import app
from core.storage.engine import Database
from tests.builders import accepted, bank_of_two, from_ada_to_bob, fund, settle_all

FLIPS = 150
TRANSFERS = 60

Content = dict[str, list[str]]


@pytest.fixture
def sound(database: Database) -> bytes:
    """The file of a ledger with settled, failed and pending transfers, all of it in the file itself."""
    bank = bank_of_two(database, ada_has=TRANSFERS * TRANSFERS, bob_has=50)
    for number in range(TRANSFERS):
        accepted(database, from_ada_to_bob(bank, number + 1))
    settle_all(database, batch=10)
    fund(database, bank.ada_account, 1)
    accepted(database, from_ada_to_bob(bank, 5))
    database.close()
    with closing(sqlite3.connect(database.path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return database.path.read_bytes()


def write(path: Path, content: bytes) -> None:
    """Make a file what it is to be, without the log of what it was."""
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    path.write_bytes(content)


def flipped(sound: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(sound)
    changed[place] ^= 1 << bit
    return bytes(changed)


def content_of(path: Path) -> Content:
    """Every row of every table, as the table itself has it."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
        names = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        tables = sorted(name for (name,) in names)
        return {name: sorted(map(repr, raw.execute(f'SELECT * FROM "{name}" NOT INDEXED'))) for name in tables}


def sqlite_is_content(path: Path) -> bool:
    """Whether SQLite's own check finds nothing."""
    try:
        with closing(sqlite3.connect(path)) as raw:
            return raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    except (sqlite3.Error, UnicodeDecodeError):
        return False


def test_no_flipped_bit_changes_what_a_ledger_says_unseen(database: Database, sound: bytes) -> None:
    before = content_of(database.path)
    dice = random.Random(1)
    used = [place for place, byte in enumerate(sound) if byte]  # what is free is zero, and says nothing
    found: Counter[str] = Counter()
    for _ in range(FLIPS):
        place, bit = dice.choice(used), dice.randrange(8)
        write(database.path, flipped(sound, place, bit))
        sqlite_saw = not sqlite_is_content(database.path)
        said = CliRunner().invoke(app, ["verify"])
        where = f"bit {bit} of byte {place}"
        if said.exit_code == 0:
            assert content_of(database.path) == before, f"{where} was not seen"
            continue
        assert isinstance(said.exception, SystemExit), f"{where}: {said.exception!r}"
        found["refused" if said.exit_code == 2 else "a rule"] += 1
        found["not by SQLite"] += not sqlite_saw
    assert min(found[kind] for kind in ("refused", "a rule", "not by SQLite")) > 0, found
