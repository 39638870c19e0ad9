"""The way back from a breach of blocks or anchors: two operators write a scar, which every verification reports."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.domain.anchors import to_line
from core.domain.audit import Author
from core.domain.users import Role
from core.security.anchor_key import AnchorKey
from core.services.transfers import cancelling
from core.services.verification import Anchors, Report, resealing, verify, verify_recent
from core.services.verification.anchoring import anchor_head
from core.services.verification.resealing import CannotReseal
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, accepted, add_user, author, from_ada_to_bob, rows, settle_all, status_of
from tests.tampering import recompute_chain, tamper

KEY = AnchorKey("a key that signs anchors in tests only, 32 bytes and more")
STRANGER = AnchorKey("the key of somebody else, who knows how scars are made")
REASON = "the disk lost a page, case 12"

Confirmed = Callable[[], Report]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "anchors.jsonl"


@pytest.fixture
def bank(database: Database, bank: Bank, path: Path) -> Bank:
    """A bank with settled and cancelled transfers, two anchors, and pending transfers around a cancelled one."""
    for amount in (300, 200):
        accepted(database, from_ada_to_bob(bank, amount))
        settle_all(database)
        cancel(database, bank)
        assert anchor_head(database, KEY, path)
    accepted(database, from_ada_to_bob(bank, 7))
    cancel(database, bank)
    accepted(database, from_ada_to_bob(bank, 8))
    return bank


@pytest.fixture
def operators(database: Database) -> list[Author]:
    with unit_of_work(database) as connection:
        return [author(add_user(connection, role=Role.OPERATOR)) for _ in range(2)]


@pytest.fixture
def reseal(database: Database, path: Path, operators: list[Author]) -> Confirmed:
    """Propose a scar, and confirm it as the other operator."""

    def twice() -> Report:
        first, second = operators
        proposal, _ = resealing.propose(database, first, Anchors(path, KEY.public), REASON)
        return resealing.confirm(database, second, proposal.id, KEY, path)

    return twice


def cancel(database: Database, bank: Bank) -> None:
    cancelled = accepted(database, from_ada_to_bob(bank, 5))
    with unit_of_work(database) as connection:
        cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=cancelled.id)


def check(database: Database, path: Path) -> Report:
    return verify(database, anchors=Anchors(path, KEY.public))


NEWEST = "(SELECT max(height) FROM blocks)"

DAMAGES: dict[str, list[str]] = {
    "a changed hash": ["UPDATE blocks SET hash = zeroblob(32) WHERE height = 2"],
    "a changed description": ["UPDATE transfers SET description = 'for supper' WHERE id = 2"],
    "a changed time of legs": ["UPDATE transactions SET posted_at = posted_at + 1 WHERE transfer_id = 2"],
    "a changed cancelled transfer": [
        "UPDATE transfers SET description = 'x' WHERE id = (SELECT max(id) FROM endings WHERE status = 'cancelled')"
    ],
    "a changed number of legs": ["UPDATE blocks SET leg_count = leg_count - 1 WHERE height = 2"],
    "a changed last transfer": ["UPDATE blocks SET last_sequence = last_sequence - 1 WHERE height = 2"],
    "a missing last block": [f"DELETE FROM blocks WHERE height = {NEWEST}"],
    "a missing cancellation": ["DELETE FROM blocks WHERE height = 3"],
    "a missing settlement": ["DELETE FROM blocks WHERE height = 2"],
    "a missing genesis": ["DELETE FROM blocks WHERE height = 0"],
    "a missing end": ["DELETE FROM blocks WHERE height > 1"],
    "only the genesis left": ["DELETE FROM blocks WHERE height > 0"],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_after_a_scar_the_ledger_verifies_and_settles_and_the_scar_stays_visible(
    database: Database, bank: Bank, path: Path, reseal: Confirmed, damage: str
) -> None:
    tamper(database, *DAMAGES[damage])
    assert not check(database, path).holds
    report = reseal()
    assert report.holds, report.breaches
    assert [scar.reason for scar in report.scars] == [REASON]
    assert settle_all(database) == 2
    cancel(database, bank)
    accepted(database, from_ada_to_bob(bank, 9))
    assert settle_all(database) == 1
    for later in (check(database, path), verify_recent(database, anchors=Anchors(path, KEY.public))):
        assert later.holds, later.breaches
        assert REASON in "".join(later.warnings)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts SET released_low = released_low + 1 WHERE kind = 'customer'",
        "UPDATE endings SET payer_id = payer_id + 1 WHERE status = 'cancelled'",
        "UPDATE lanes SET next_id = next_id + 1 WHERE name = 'accept'",
        "UPDATE accounts SET balance = balance + 1 WHERE kind = 'customer'",
        "UPDATE transactions SET balance_after = balance_after + 1 WHERE id = 1",
        "UPDATE transfers SET amount = amount + 1 WHERE id = 2",
    ],
)
def test_a_scar_is_refused_while_any_other_rule_is_broken(
    database: Database, bank: Bank, reseal: Confirmed, statement: str
) -> None:
    tamper(database, statement, "UPDATE blocks SET hash = zeroblob(32) WHERE height = 2")
    with pytest.raises(CannotReseal, match="other rules are broken"):
        reseal()
    assert settle_all(database) == 0
    assert not rows(database, "SELECT 1 FROM scars")


def test_a_scar_is_refused_where_every_rule_holds(database: Database, bank: Bank, reseal: Confirmed) -> None:
    with pytest.raises(CannotReseal, match="every rule holds"):
        reseal()


def test_one_operator_is_not_enough(database: Database, bank: Bank, path: Path, operators: list[Author]) -> None:
    tamper(database, *DAMAGES["a changed hash"])
    proposal, _ = resealing.propose(database, operators[0], Anchors(path, KEY.public), REASON)
    with pytest.raises(CannotReseal, match="a second one must"):
        resealing.confirm(database, operators[0], proposal.id, KEY, path)
    with pytest.raises(CannotReseal, match="no open proposal"):
        resealing.confirm(database, operators[1], proposal.id + 1, KEY, path)
    assert settle_all(database) == 0, "a proposal alone changes nothing"
    assert resealing.confirm(database, operators[1], proposal.id, KEY, path).holds
    with pytest.raises(CannotReseal, match="no open proposal"):
        resealing.confirm(database, operators[1], proposal.id, KEY, path)


def test_the_second_operator_confirms_only_what_the_first_one_saw(
    database: Database, bank: Bank, path: Path, operators: list[Author]
) -> None:
    tamper(database, *DAMAGES["a changed description"])
    proposal, _ = resealing.propose(database, operators[0], Anchors(path, KEY.public), REASON)
    tamper(database, "UPDATE transfers SET description = 'for dinner' WHERE id = 2")
    with pytest.raises(CannotReseal, match="not what the first operator saw"):
        resealing.confirm(database, operators[1], proposal.id, KEY, path)


def test_both_acts_are_in_the_audit_log_with_their_operators(
    database: Database, bank: Bank, reseal: Confirmed, operators: list[Author]
) -> None:
    tamper(database, *DAMAGES["a changed hash"])
    reseal()
    found = rows(
        database, "SELECT action, author_id, details ->> 'reason' AS why FROM audit_entries ORDER BY id DESC LIMIT 2"
    )
    assert [(row["action"], row["author_id"], row["why"]) for row in reversed(found)] == [
        ("ledger_reseal_proposed", operators[0].user_id, REASON),
        ("ledger_resealed", operators[1].user_id, REASON),
    ]


AFTERWARDS: dict[str, tuple[str, str]] = {
    "a covered transfer": ("block_recomputes", "UPDATE transfers SET description = 'again' WHERE id = 2"),
    "a covered leg": ("block_recomputes", "UPDATE transactions SET posted_at = posted_at + 1 WHERE transfer_id = 2"),
    "a replaced block": ("block_recomputes", "UPDATE blocks SET made_at = made_at + 1 WHERE height = 2"),
    "a block before it": ("block_recomputes", "UPDATE blocks SET hash = zeroblob(32) WHERE height = 0"),
    "its reason": ("block_recomputes", "UPDATE scars SET reason = 'nothing happened'"),
    "its operators": ("block_recomputes", "UPDATE scars SET confirmed_by = 1"),
    "its signature": ("scar_is_signed", "UPDATE scars SET signature = zeroblob(64)"),
    "its row": ("blocks_are_whole", "DELETE FROM scars"),
    "its block": ("scar_is_signed", "DELETE FROM blocks WHERE kind = 'scar'"),
}


@pytest.mark.parametrize("change", AFTERWARDS)
def test_a_change_after_the_scar_is_a_breach_again(
    database: Database, bank: Bank, path: Path, reseal: Confirmed, change: str
) -> None:
    tamper(database, *DAMAGES["a changed description"])
    assert reseal().holds
    rule, statement = AFTERWARDS[change]
    tamper(database, statement)
    assert check(database, path).counts[rule]


def test_a_scar_that_the_bank_did_not_sign_hides_nothing(
    database: Database, bank: Bank, path: Path, operators: list[Author], tmp_path: Path
) -> None:
    tamper(database, *DAMAGES["a changed description"])
    other = tmp_path / "own.jsonl"
    proposal, _ = resealing.propose(database, operators[0], Anchors(other, STRANGER.public), "trust me")
    assert resealing.confirm(database, operators[1], proposal.id, STRANGER, other).holds, "to the owner of that key"
    assert check(database, path).counts["scar_is_signed"]


def test_a_changed_past_with_all_hashes_computed_again_needs_a_scar_from_the_last_anchor_that_holds(
    database: Database, bank: Bank, path: Path, reseal: Confirmed
) -> None:
    tamper(database, "UPDATE transfers SET description = 'forged' WHERE id = 4")
    recompute_chain(database)
    assert set(check(database, path).counts) == {"anchor_holds"}
    report = reseal()
    assert report.holds, report.breaches
    (scar,) = report.scars
    heights = [row["height"] for row in rows(database, "SELECT height FROM blocks WHERE kind = 'cancellation'")]
    assert scar.first_height == heights[0] + 1, "the first anchor names the first cancellation, and still holds"
    assert "1 anchors name blocks that a scar replaces" in "".join(report.warnings)
    assert report.anchors == 2, "the first one, and that of the scar"


def test_a_scar_answers_anchors_that_are_newer_than_a_restored_ledger(
    database: Database, bank: Bank, path: Path, reseal: Confirmed
) -> None:
    with path.open("a") as file:
        file.write(to_line(KEY.sign(90, bytes(32), 5)) + "\n")
    assert set(check(database, path).counts) == {"anchor_holds"}
    report = reseal()
    assert report.holds, report.breaches
    assert report.scars[0].height == 91, "no block ever has the height of an anchor that it does not match"


def test_a_second_scar_can_replace_the_first_and_both_stay_visible(
    database: Database, bank: Bank, path: Path, reseal: Confirmed
) -> None:
    tamper(database, *DAMAGES["a changed description"])
    assert reseal().holds
    settle_all(database)
    tamper(database, "UPDATE transfers SET description = 'once more' WHERE id = 2")
    report = reseal()
    assert report.holds, report.breaches
    assert len(report.scars) == 2
    accepted(database, from_ada_to_bob(bank, 9))
    settle_all(database)
    tamper(database, "UPDATE transfers SET description = 'later' WHERE id = (SELECT max(id) FROM transfers)")
    report = reseal()
    assert report.holds, report.breaches
    assert len(report.scars) == 3


def test_a_scar_cannot_be_changed_or_deleted(database: Database, bank: Bank, reseal: Confirmed) -> None:
    tamper(database, *DAMAGES["a changed hash"])
    reseal()
    for statement in ("UPDATE scars SET reason = 'x'", "UPDATE scars SET signature = x'00'", "DELETE FROM scars"):
        with pytest.raises(Exception, match="scar"), unit_of_work(database) as connection:
            connection.exec_driver_sql(statement)


def test_nothing_ends_between_the_look_and_the_scar(
    database: Database, bank: Bank, path: Path, operators: list[Author], monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = accepted(database, from_ada_to_bob(bank, 3))
    tamper(database, *DAMAGES["a changed hash"])
    look = resealing._damage

    def look_and_release(*args: object) -> resealing.Damage:
        damage = look(*args)  # type: ignore[arg-type]
        with unit_of_work(database) as connection:
            connection.exec_driver_sql("UPDATE verifications SET breaches = 0, details = '[]'")
        return damage

    monkeypatch.setattr(resealing, "_damage", look_and_release)
    with pytest.raises(CannotReseal, match="went on meanwhile"):
        resealing.propose(database, operators[0], Anchors(path, KEY.public), REASON)
    assert status_of(database, pending) == "pending"
