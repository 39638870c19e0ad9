"""Anchors: the ledger must match the signed hashes of its blocks, even if an attacker recomputes every hash."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.clock import now_us, to_datetime
from core.domain.anchors import Anchor, from_line, to_line
from core.files import append_only
from core.security.anchor_key import AnchorKey, is_signed_with
from core.services import verification
from core.services.transfers import cancelling
from core.services.verification import Anchors, Report, verify, verify_recent
from core.services.verification import anchors as check_of_anchors
from core.services.verification.anchoring import anchor_head
from core.storage import blocks
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, accepted, from_ada_to_bob, rows, settle_all
from tests.tampering import LANES_FIT, TOTALS_FIT, recompute_chain, tamper

SECRET = "a key that signs anchors in tests only, 32 bytes and more"
KEY = AnchorKey(SECRET)
STRANGER = AnchorKey("the key of somebody else, who knows how anchors are made")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "anchors.jsonl"


@pytest.fixture
def bank(database: Database, bank: Bank, path: Path) -> Bank:
    """A bank with a settled, a failed and a cancelled transfer, anchored twice, and with more settled since."""
    accepted(database, from_ada_to_bob(bank, 300))
    settle_all(database)
    assert anchor_head(database, KEY, path)
    cancelled = accepted(database, from_ada_to_bob(bank, 5))
    with unit_of_work(database) as connection:
        cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=cancelled.id)
    accepted(database, from_ada_to_bob(bank, 200))
    settle_all(database)
    assert anchor_head(database, KEY, path)
    accepted(database, from_ada_to_bob(bank, 100))
    settle_all(database)
    return bank


@pytest.fixture
def check(database: Database, bank: Bank, path: Path) -> Callable[[], Report]:
    return lambda: verify(database, anchors=Anchors(path, KEY.public))


def height_of(database: Database) -> int:
    height: int = rows(database, "SELECT max(height) AS height FROM blocks")[0]["height"]
    return height


def keep(database: Database, report: Report) -> None:
    with unit_of_work(database) as connection:
        verification.keep(connection, report, started_at=to_datetime(now_us()))


# --- making anchors ---


def test_an_anchor_names_the_newest_block_and_its_signature_can_be_checked(
    database: Database, bank: Bank, path: Path
) -> None:
    anchor = anchor_head(database, KEY, path)
    assert anchor is not None
    with database.reader.connect() as connection:
        assert (anchor.height, anchor.hash) == (height_of(database), blocks.head(connection).hash)
    assert is_signed_with(anchor, KEY.public)
    assert from_line(path.read_text().splitlines()[-1]) == anchor


def test_a_block_is_anchored_only_once(database: Database, bank: Bank, path: Path) -> None:
    assert anchor_head(database, KEY, path)
    before = path.read_text()
    assert anchor_head(database, KEY, path) is None
    assert path.read_text() == before


def test_only_the_owner_can_open_the_file_and_it_only_grows(database: Database, bank: Bank, path: Path) -> None:
    before = path.read_bytes()
    assert anchor_head(database, KEY, path)
    assert path.read_bytes().startswith(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_new_key_signs_the_newest_block_again(database: Database, bank: Bank, path: Path) -> None:
    assert anchor_head(database, KEY, path)
    assert anchor_head(database, STRANGER, path)


def test_a_line_torn_by_a_power_cut_is_ended_and_is_a_warning(
    database: Database, bank: Bank, path: Path, check: Callable[[], Report]
) -> None:
    with path.open("a") as file:
        file.write('{"version": 1, "hei')
    assert anchor_head(database, KEY, path)
    report = check()
    assert report.holds
    assert (report.anchors, len(report.warnings)) == (3, 1)


@pytest.mark.parametrize(
    "changes",
    [
        *({"height": value} for value in (-1, 2**63, "1", 1.0, True, None)),
        *({"hash": value} for value in ("00", "zz" * 32, 7, None)),
        *({"signature": value} for value in ("00" * 63, "")),
        {"public_key": "00" * 33},
        {"version": 2},
    ],
)
def test_an_invalid_line_is_not_read_as_an_anchor(changes: dict[str, object]) -> None:
    line = to_line(KEY.sign(7, bytes(32), 5))
    with pytest.raises(ValueError, match=r"."):
        from_line(json.dumps(json.loads(line) | changes))


@pytest.mark.parametrize("line", ["", "[]", "{", "7", "null", '{"version": 1}', "[" * 60_000])
def test_another_line_is_not_an_anchor(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_line(line)


@pytest.mark.parametrize(
    "change",
    [{"height": 8}, {"hash": bytes(31) + b"\x01"}, {"anchored_at": 6}, {"signature": bytes(64)}],
)
def test_a_signature_is_valid_only_for_the_signed_content(change: dict[str, object]) -> None:
    signed = KEY.sign(7, bytes(32), 5)
    values = {name: getattr(signed, name) for name in Anchor.__slots__}
    assert is_signed_with(Anchor(**values), KEY.public)
    assert not is_signed_with(Anchor(**values | change), KEY.public)
    assert not is_signed_with(signed, STRANGER.public)


# --- checking the ledger against anchors ---


def test_a_ledger_that_matches_its_anchors_holds(check: Callable[[], Report]) -> None:
    report = check()
    assert report.breaches == []
    assert (report.anchors, report.anchored_height) == (2, 4)


EVERYTHING_FITS = [
    # Ada gets her first payment back, and every figure that depends on it is changed, too.
    "UPDATE transactions SET amount = amount / 3, balance_after = balance_after + 200 WHERE id = 3",
    "UPDATE transactions SET amount = amount / 3, balance_after = balance_after - 200 WHERE id = 4",
    "UPDATE transactions SET balance_after = balance_after + iif(account_id = 2, 200, -200) WHERE id > 4",
    "UPDATE transfers SET amount = 100 WHERE id = 2",
    "UPDATE accounts SET balance = balance + iif(id = 2, 200, -200) WHERE id IN (2, 3)",
    TOTALS_FIT,
]


def test_only_anchors_detect_a_past_changed_with_all_figures_and_hashes(
    database: Database, check: Callable[[], Report]
) -> None:
    tamper(database, *EVERYTHING_FITS)
    assert set(check().counts) == {"block_recomputes"}
    recompute_chain(database)
    assert verify(database).holds, "without anchors nothing is detected"
    report = check()
    assert dict(report.counts) == {"anchor_holds": 2}
    assert "that block has another hash now" in report.breaches[0].detail


def test_only_anchors_detect_a_ledger_whose_end_was_cut_off(database: Database, check: Callable[[], Report]) -> None:
    last_two = "(SELECT id FROM transfers ORDER BY id DESC LIMIT 2)"
    tamper(
        database,
        f"UPDATE accounts SET balance = balance - coalesce((SELECT sum(amount) FROM transactions "
        f"WHERE account_id = accounts.id AND transfer_id IN {last_two}), 0)",
        f"DELETE FROM transactions WHERE transfer_id IN {last_two}",
        f"DELETE FROM endings WHERE id IN {last_two}",
        f"DELETE FROM transfers WHERE id IN {last_two}",
        "UPDATE accounts SET last_transaction_id = (SELECT max(id) FROM transactions WHERE account_id = accounts.id)",
        "UPDATE reservations SET last_transfer_id = (SELECT max(id) FROM transfers WHERE from_account_id = account_id)",
        TOTALS_FIT,
        LANES_FIT,
        "DELETE FROM blocks WHERE height > (SELECT max(height) - 2 FROM blocks)",
    )
    assert verify(database).holds, "without anchors nothing is detected"
    report = check()
    assert dict(report.counts) == {"anchor_holds": 1}
    assert "the ledger has no such block" in report.breaches[0].detail


def test_an_anchor_signed_with_another_key_is_detected(
    database: Database, path: Path, check: Callable[[], Report]
) -> None:
    tamper(database, *EVERYTHING_FITS)
    recompute_chain(database)
    path.unlink()
    assert anchor_head(database, STRANGER, path)
    assert dict(check().counts) == {"anchor_holds": 1}


def test_an_anchor_of_another_ledger_is_detected(path: Path, check: Callable[[], Report]) -> None:
    append_only.append(path, to_line(KEY.sign(2, bytes(32), 5)))
    assert dict(check().counts) == {"anchor_holds": 1}


@pytest.mark.parametrize("left", [0, 1])
def test_truncated_anchors_are_detected_once_they_were_seen(
    database: Database, path: Path, check: Callable[[], Report], left: int
) -> None:
    keep(database, check())
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:left]))
    assert dict(check().counts) == {"anchor_holds": 1}
    path.write_text("".join(lines))
    assert check().holds


@pytest.mark.parametrize("look", [verify, verify_recent])
def test_an_anchor_made_during_a_verification_is_not_a_breach(
    database: Database, bank: Bank, path: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[..., Report]
) -> None:
    keep(database, verify(database, anchors=Anchors(path, KEY.public)))
    read = check_of_anchors.read

    def settle_first(file: Path) -> Iterator[str]:
        accepted(database, from_ada_to_bob(bank, 1))
        settle_all(database)
        assert anchor_head(database, KEY, path)
        return read(file)

    monkeypatch.setattr(check_of_anchors, "read", settle_first)
    assert look(database, anchors=Anchors(path, KEY.public)).breaches == []


@pytest.mark.parametrize("look", [verify, verify_recent])
def test_an_anchor_seen_by_a_concurrent_verification_is_not_a_breach(
    database: Database, bank: Bank, path: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[..., Report]
) -> None:
    keep(database, verify(database, anchors=Anchors(path, KEY.public)))
    read = check_of_anchors.read

    def overtaken(file: Path) -> Iterator[str]:
        yield from read(file)
        assert anchor_head(database, KEY, path)
        monkeypatch.setattr(check_of_anchors, "read", read)
        keep(database, verify_recent(database, anchors=Anchors(path, KEY.public)))

    monkeypatch.setattr(check_of_anchors, "read", overtaken)
    assert look(database, anchors=Anchors(path, KEY.public)).breaches == []


def test_a_missing_anchor_file_is_not_a_breach_before_the_first_anchor(database: Database, tmp_path: Path) -> None:
    assert verify(database, anchors=Anchors(tmp_path / "none.jsonl", KEY.public)).holds


# --- verifying recent rows ---


def test_a_recent_verification_reads_new_rows_and_every_account(
    database: Database, bank: Bank, path: Path, check: Callable[[], Report]
) -> None:
    keep(database, check())
    for amount in (1, 2):
        accepted(database, from_ada_to_bob(bank, amount))
    settle_all(database)
    accepted(database, from_ada_to_bob(bank, 3))
    report = verify_recent(database, anchors=Anchors(path, KEY.public))
    assert report.breaches == []
    assert (report.scope, report.accounts, report.transfers, report.transactions) == ("recent", 3, 3, 4)
    assert (report.blocks, report.height) == (1, height_of(database))


CHANGES = {
    "balance_is_sum_of_legs": "UPDATE accounts SET balance = balance + iif(id = 2, 1, -1) WHERE id IN (2, 3)",
    "reserved_is_pending": "UPDATE accounts SET released_low = released_low - 7 WHERE id = 2",
    "chain_is_whole": "UPDATE transactions SET previous_id = 2 WHERE id = (SELECT last_transaction_id FROM accounts "
    "WHERE id = 2)",
    "balance_after_recomputes": "UPDATE transactions SET balance_after = balance_after + 1 WHERE id = "
    "(SELECT last_transaction_id - 2 FROM accounts WHERE id = 2)",
    "transfer_chain_is_whole": "UPDATE reservations SET last_transfer_id = 1 WHERE account_id = 2",
    "completed_has_legs": "UPDATE endings SET status = 'failed', failure_code = 'account_closed', payer_id = 2 "
    "WHERE id = 6",
    "ending_is_whole": "UPDATE endings SET payer_id = 2 WHERE id = 6",
    "lanes_go_on": "UPDATE lanes SET watermark = watermark - 1 WHERE name = 'settle'",
    "block_recomputes": "UPDATE transfers SET description = 'for supper' WHERE id = 6",
}


@pytest.mark.parametrize("rule", CHANGES)
def test_a_recent_verification_finds_new_breaches(
    database: Database, bank: Bank, check: Callable[[], Report], rule: str
) -> None:
    keep(database, check())
    for amount in (1, 2):
        accepted(database, from_ada_to_bob(bank, amount))
    settle_all(database)
    assert verify_recent(database).holds
    tamper(database, CHANGES[rule])
    assert rule in verify_recent(database).counts


def test_a_recent_verification_after_a_failed_one_reads_everything(
    database: Database, bank: Bank, check: Callable[[], Report]
) -> None:
    tamper(database, "UPDATE accounts SET released_low = released_low + 1 WHERE id = 2")
    keep(database, check())
    assert verify_recent(database).scope == "full"


def test_a_recent_verification_reads_everything_if_its_starting_block_has_changed(
    database: Database, check: Callable[[], Report]
) -> None:
    keep(database, check())
    tamper(database, *EVERYTHING_FITS)
    recompute_chain(database)
    assert verify_recent(database).scope == "full"


def test_the_first_recent_verification_reads_everything(database: Database, bank: Bank) -> None:
    assert verify_recent(database).scope == "full"


def test_a_transfer_cancelled_before_and_skipped_since_is_known(
    database: Database, bank: Bank, check: Callable[[], Report]
) -> None:
    accepted(database, from_ada_to_bob(bank, 1))
    cancelled = accepted(database, from_ada_to_bob(bank, 2))
    with unit_of_work(database) as connection:
        cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=cancelled.id)
    keep(database, check())
    accepted(database, from_ada_to_bob(bank, 3))
    settle_all(database)
    assert verify_recent(database).breaches == []
