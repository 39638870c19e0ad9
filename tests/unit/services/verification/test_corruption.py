"""A damaged database file: verification finds the damage, and settlement stops."""

import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.cli import app
from core.clock import to_datetime
from core.services.verification import verify
from core.storage.sqlite.engine import Database
from core.storage.statements import figures
from tests.builders import accepted, bank_of_two, from_ada_to_bob, fund, settle_all
from tests.tampering import tamper
from tests.thorough import examples

FLIPS = 60
PAGE = 4096
TRANSFERS = 60

VERIFIED = {
    "transactions": "*",
    "blocks": "*",
    "transfers": "* FROM transfers WHERE id IN (SELECT id FROM endings)",
    "endings": "*",
    "accounts": "id, kind, currency, balance, last_transaction_id, released_count, released_high, released_low",
    "reservations": "*",
    "lanes": "name, next_id, iif(name = 'settle', watermark, NULL) FROM lanes",
}
"""The tables that verification covers. It does not cover people and their rights (users, owners, limits and freezes of
accounts, tokens, cards), transfers that have not ended, lanes whose times are too late, and mere records (audit log,
verifications, statements of months that are not closed): no sum and no hash covers those."""

Content = dict[str, list[str]]


@pytest.fixture
def sound(database: Database) -> bytes:
    """The database file of a ledger with settled, failed and pending transfers, without a write-ahead log."""
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
    """Replace the database file, and delete the write-ahead log of the old one."""
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    path.write_bytes(content)


def flipped(sound: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(sound)
    changed[place] ^= 1 << bit
    return bytes(changed)


def verified_content(path: Path) -> Content:
    """Every row that verification covers, as the table stores it."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
        queries = {table: what if "FROM" in what else f"{what} FROM {table}" for table, what in VERIFIED.items()}
        return {table: sorted(map(repr, raw.execute(f"SELECT {query}"))) for table, query in queries.items()}


def sqlite_is_content(path: Path) -> bool:
    """Whether SQLite's own check passes."""
    try:
        with closing(sqlite3.connect(path)) as raw:
            return raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    except (sqlite3.Error, UnicodeDecodeError):
        return False


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(examples(quick=2, thorough=5)))
def test_no_flipped_bit_changes_verified_rows_undetected(database: Database, sound: bytes, seed: int) -> None:
    before, dice = verified_content(database.path), random.Random(seed)
    used = [place for place, byte in enumerate(sound) if byte]  # free space is zero, and contains nothing
    found: Counter[str] = Counter()
    for _ in range(FLIPS):
        place, bit = dice.choice(used), dice.randrange(8)
        write(database.path, flipped(sound, place, bit))
        sqlite_saw = not sqlite_is_content(database.path)
        said = CliRunner().invoke(app, ["verify"])
        where = f"bit {bit} of byte {place}"
        if said.exit_code == 0:
            assert verified_content(database.path) == before, f"{where} was not detected"
            continue
        assert isinstance(said.exception, SystemExit), f"{where}: {said.exception!r}"
        found["refused" if said.exit_code == 2 else "a rule"] += 1
        found["not by SQLite"] += not sqlite_saw
    assert min(found[kind] for kind in ("a rule", "not by SQLite")) > 0, found


def test_a_page_that_cannot_be_read_is_a_breach_and_stops_settlement(database: Database, sound: bytes) -> None:
    kind_of_page = (root_of(database.path, "transactions") - 1) * PAGE
    damaged = bytearray(sound)
    damaged[kind_of_page] = 0x77  # unknown to SQLite
    write(database.path, bytes(damaged))
    said = CliRunner().invoke(app, ["verify", "--keep"])
    assert (said.exit_code, "file_is_sound" in said.stdout) == (1, True)
    with closing(sqlite3.connect(database.path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    fixed = bytearray(database.path.read_bytes())
    fixed[kind_of_page] = sound[kind_of_page]
    write(database.path, bytes(fixed))
    assert settle_all(database) == 0, "the stored verification counts, although the page is whole again"
    assert CliRunner().invoke(app, ["verify", "--keep"]).exit_code == 0
    assert settle_all(database) == 1


def test_a_verification_of_recent_rows_fails_if_it_cannot_read_the_chain(database: Database, sound: bytes) -> None:
    write(database.path, sound)
    assert CliRunner().invoke(app, ["verify", "--keep"]).exit_code == 0
    with closing(sqlite3.connect(database.path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damaged = bytearray(database.path.read_bytes())
    damaged[(root_of(database.path, "blocks") - 1) * PAGE] = 0x77
    write(database.path, bytes(damaged))
    said = CliRunner().invoke(app, ["verify", "--recent"])
    assert (said.exit_code, "file_is_sound" in said.stdout) == (1, True), said.stderr


def root_of(path: Path, table: str) -> int:
    """The first page of a table, from 1."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
        number: int = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
        return number


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["DROP TRIGGER transfers_never_change"], "trigger transfers_never_change of transfers is missing"),
        (["DROP TRIGGER endings_never_change"], "trigger endings_never_change of endings is missing"),
        (["DROP INDEX ix_endings_unexecuted"], "index ix_endings_unexecuted of endings is missing"),
        (["DROP TABLE lanes"], "table lanes of lanes is missing"),
        (["DROP TABLE statements"], "table statements of statements is missing"),
        (
            ["CREATE TRIGGER tithe AFTER UPDATE ON accounts BEGIN SELECT 1; END"],
            "trigger tithe of accounts is unknown",
        ),
        (
            [
                "DROP TRIGGER transfers_stay",
                "CREATE TRIGGER transfers_stay BEFORE DELETE ON transfers BEGIN SELECT 1; END",
            ],
            "trigger transfers_stay of transfers was changed",
        ),
    ],
)
def test_a_changed_schema_is_found(database: Database, sound: bytes, changes: list[str], said: str) -> None:
    change_schema(sound, database, *changes)
    result = CliRunner().invoke(app, ["verify"])
    assert result.exit_code == 1
    assert f"schema_is_whole: {said}" in result.stdout


def test_an_index_that_an_operator_added_breaks_nothing(database: Database, sound: bytes) -> None:
    change_schema(sound, database, "CREATE INDEX mine ON transfers (amount)")
    assert CliRunner().invoke(app, ["verify"]).exit_code == 0


def change_schema(sound: bytes, database: Database, *changes: str) -> None:
    write(database.path, sound)
    with closing(sqlite3.connect(database.path, isolation_level=None)) as raw:
        for change in changes:
            raw.execute(change)


@pytest.mark.parametrize("row_id", [2**40, 5000])
def test_a_row_id_far_from_all_others_takes_no_memory(database: Database, sound: bytes, row_id: int) -> None:
    write(database.path, sound)
    tamper(database, f"UPDATE accounts SET id = {row_id} WHERE id = (SELECT max(id) FROM accounts)")
    report = verify(database)
    assert "file_is_sound" in report.counts
    assert report.accounts == 0, "reading stopped there"


def test_legs_that_name_each_other_in_a_circle_are_walked_once(database: Database, sound: bytes) -> None:
    write(database.path, sound)
    tamper(database, "UPDATE transactions SET previous_id = id WHERE previous_id IS NOT NULL")
    month = {"starts_at": to_datetime(0), "ends_at": to_datetime(2**53)}
    with database.reader.connect() as connection:
        last = connection.exec_driver_sql("SELECT id, account_id FROM transactions ORDER BY id DESC").first()
        assert last is not None
        assert figures(connection, last[1], start=last[0], **month).transaction_count == 1
