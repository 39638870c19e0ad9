"""Blocks: their bytes, the content that each covers, and the beginning of the chain in an existing database."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

import core
from core.domain.blocks import Block, BlockKind, Sealer
from core.domain.transfers import Terms
from core.services.transfers import cancelling
from core.services.verification import verify
from core.settings import Settings
from core.storage import blocks
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, accept, accepted, bank_of_two, freeze, from_ada_to_bob, rows, settle_all
from tests.tampering import forget_erasure, unguarded

TERMS = Terms(
    sequence=7,
    public_id=bytes(range(16)),
    kind="transfer",
    from_account_id=2,
    to_account_id=3,
    amount=500,
    currency="EUR",
    description="für Käse",
    submitted_by=4,
    request_id="r-1",
    idempotency_key=None,
    fingerprint=b"\xff" * 4,
    answer_version=1,
    previous_id=None,
    created_at=1_000,
)
GENESIS = Block(0, BlockKind.GENESIS, 1, 0, 1, 0, 0, 900, b"g" * 32)


def number(value: int, size: int = 8) -> bytes:
    return value.to_bytes(size, "big", signed=True)


def test_the_bytes_of_a_block_match_the_documentation() -> None:
    sealer = Sealer()
    sealer.add_legs([(1, 7, 2, -500, 100, 2_000, None), (2, 7, 3, 500, 900, 2_000, 1)])
    sealer.add_ending(TERMS, "completed", 2_000, None)
    made = sealer.seal(BlockKind.SETTLEMENT, GENESIS, first_sequence=7, last_sequence=7, made_at=2_000)
    legs = b"".join(map(number, (1, 7, 2, -500, 100, 2_000, 0, 2, 7, 3, 500, 900, 2_000, 1)))
    texts = ["transfer", "EUR", "completed", None, "r-1", "für Käse", None]
    ending = number(7) + bytes(range(16))
    ending += b"".join(map(number, (2, 3, 500, 4, 1, 0, 1_000, 2_000)))
    ending += b"".join(number(-1 if text is None else len(text), 4) for text in texts) + number(4, 4)
    ending += "".join(text for text in texts if text).encode() + b"\xff" * 4
    header = b"giro.block.v1\0" + GENESIS.hash + b"settlement\0\0"
    header += b"".join(map(number, (1, 1, 2, 7, 7, 1, 2_000))) + sha256(legs).digest() + sha256(ending).digest()
    assert made == Block(1, BlockKind.SETTLEMENT, 1, 2, 7, 7, 1, 2_000, sha256(header).digest())
    assert made.next_leg_id == 3


def block_of(terms: Terms = TERMS, previous: Block = GENESIS, status: str = "failed", failure: str = "x") -> bytes:
    sealer = Sealer()
    sealer.add_ending(terms, status, 2_000, failure)
    return sealer.seal(BlockKind.SETTLEMENT, previous, first_sequence=7, last_sequence=7, made_at=2_000).hash


@pytest.mark.parametrize("column", Terms._fields)
def test_every_term_of_a_transfer_is_in_the_hash(column: str) -> None:
    before = getattr(TERMS, column)
    other = {int: 99, str: "another", bytes: b"0123456789abcdef"}.get(type(before), "" if before is None else None)
    if column == "previous_id":
        other = 6
    assert block_of(TERMS._replace(**{column: other})) != block_of()


def test_a_missing_text_and_an_empty_one_have_different_hashes() -> None:
    assert block_of(TERMS._replace(description=None)) != block_of(TERMS._replace(description=""))


def test_neighbouring_texts_are_separated_in_the_hash() -> None:
    one, other = TERMS._replace(request_id="ab", description="c"), TERMS._replace(request_id="a", description="bc")
    assert block_of(one) != block_of(other)


def test_the_outcome_and_the_previous_block_are_in_the_hash() -> None:
    hashes = {block_of(), block_of(status="completed"), block_of(failure="y")}
    hashes |= {block_of(previous=replace(GENESIS, hash=b"h" * 32)), block_of(previous=replace(GENESIS, height=5))}
    assert len(hashes) == 5


# --- blocks of settlement and cancellation ---


def chain(database: Database) -> list[tuple[str, int, int, int, int, int]]:
    return [
        tuple(row.values())  # type: ignore[misc]
        for row in rows(
            database,
            "SELECT kind, first_leg_id, leg_count, first_sequence, last_sequence, ending_count FROM blocks "
            "ORDER BY height",
        )
    ]


def cancel(database: Database, bank: Bank, transfer: core.domain.transfers.AcceptedTransfer) -> None:
    with unit_of_work(database) as connection:
        cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=transfer.id)


def test_a_new_ledger_begins_with_an_empty_block(database: Database) -> None:
    assert chain(database) == [("genesis", 1, 0, 1, 0, 0)]


def test_each_unit_of_work_that_ends_transfers_writes_one_block(database: Database) -> None:
    bank = bank_of_two(database, ada_has=1000)
    for _ in range(3):
        accepted(database, from_ada_to_bob(bank))
    cancel(database, bank, accepted(database, from_ada_to_bob(bank)))
    freeze(database, bank.bob_account)  # so pending transfers will fail: they end without legs
    settle_all(database)
    assert settle_all(database) == 0
    assert chain(database) == [
        ("genesis", 1, 0, 1, 0, 0),
        ("settlement", 1, 2, 1, 1, 1),
        ("cancellation", 3, 0, 5, 5, 1),
        ("settlement", 3, 0, 2, 4, 3),
    ]
    assert verify(database).holds


def test_a_settlement_skips_cancelled_transfers(database: Database) -> None:
    bank = bank_of_two(database, ada_has=1000)
    waiting = [accepted(database, from_ada_to_bob(bank, 1)) for _ in range(5)]
    for transfer in (waiting[1], waiting[4]):
        cancel(database, bank, transfer)
    settle_all(database, batch=2)
    assert chain(database)[2:] == [
        ("cancellation", 3, 0, 3, 3, 1),
        ("cancellation", 3, 0, 6, 6, 1),
        ("settlement", 3, 4, 2, 4, 2),
        ("settlement", 7, 2, 5, 5, 1),
    ]
    assert verify(database).holds


def test_a_rolled_back_unit_of_work_leaves_no_block(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = bank_of_two(database, ada_has=1000)
    accepted(database, from_ada_to_bob(bank))
    before = chain(database)
    monkeypatch.setattr(blocks, "add", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        settle_all(database)
    assert chain(database) == before
    assert verify(database).holds


# --- the beginning of the chain in an existing ledger ---


@pytest.fixture
def upgraded(database: Database, settings: Settings) -> Callable[[], None]:
    """Take a ledger back to the migration before blocks, and upgrade it again."""

    def back_and_up() -> None:
        database.close()
        forget_erasure(settings.database_path)
        with unguarded(settings.database_path) as raw:
            raw.execute("DROP TABLE batches")
            raw.execute("DROP TABLE blocks")
            raw.execute("DROP TABLE verifications")
            raw.execute(
                "CREATE TABLE verifications (id INTEGER NOT NULL PRIMARY KEY, started_at INTEGER, finished_at INTEGER, "
                "accounts INTEGER, transfers INTEGER, transactions INTEGER, breaches INTEGER, details TEXT) STRICT"
            )
            raw.execute("INSERT INTO verifications VALUES (1, 1, 2, 3, 4, 5, 0, '[]')")
            raw.execute("UPDATE alembic_version SET version_num = '0006'")
        config = Config()
        config.set_main_option("script_location", str(Path(core.__file__).parent.parent / "migrations"))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, "head")

    return back_and_up


def test_an_upgrade_begins_the_chain_with_everything_that_has_ended(
    database: Database, upgraded: Callable[[], None]
) -> None:
    bank = bank_of_two(database, ada_has=1000, bob_has=50)
    cancel(database, bank, accepted(database, from_ada_to_bob(bank)))
    accepted(database, from_ada_to_bob(bank, 300))
    settle_all(database)
    for _ in range(2):
        accepted(database, from_ada_to_bob(bank))
    ahead = [accepted(database, from_ada_to_bob(bank)) for _ in range(2)]
    accepted(database, from_ada_to_bob(bank))
    for transfer in ahead:
        cancel(database, bank, transfer)
    upgraded()
    assert chain(database) == [
        ("genesis", 1, 6, 1, 4, 4),
        ("cancellation", 7, 0, 7, 7, 1),
        ("cancellation", 7, 0, 8, 8, 1),
    ]
    assert verify(database).breaches == []
    settle_all(database)
    assert chain(database)[3:] == [("settlement", 7, 6, 5, 9, 3)]
    assert verify(database).breaches == []
    (kept,) = rows(database, "SELECT * FROM verifications")
    assert (kept["id"], kept["scope"], kept["height"]) == (1, "full", None)


def test_an_upgrade_works_on_a_ledger_larger_than_one_read(database: Database, upgraded: Callable[[], None]) -> None:
    bank = bank_of_two(database, ada_has=100_000)
    for _ in range(21):
        accept(database, *(from_ada_to_bob(bank, 1) for _ in range(500)))
    settle_all(database)
    upgraded()
    assert chain(database) == [("genesis", 1, 21_002, 1, 10_501, 10_501)]
    assert verify(database).breaches == []
