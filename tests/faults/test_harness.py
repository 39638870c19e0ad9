"""The harness itself: its plans are repeatable, its model is correct, and each of its checks can fail."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.faults.harness.checks import (
    CHECKS,
    Ledger,
    answers_one_key_with_the_same_bytes,
    conserves_money,
    ends_everything,
    follows_the_model,
    loses_and_doubles_nothing,
    matches_what_clients_saw,
    respects_real_time_order,
)
from tests.faults.harness.history import History, Submission
from tests.faults.harness.model import Row, replay
from tests.faults.harness.plan import SECONDS_PER_KILL, make_plan
from tests.faults.harness.report import one_line, table
from tests.faults.harness.run import Result

BANK, ADA, BOB = "bank", "ada", "bob"
ROWS = [
    Row(1, "t1", None, BANK, ADA, 100, "completed"),
    Row(2, "t2", "k2", ADA, BOB, 30, "completed"),
    Row(3, "t3", "k3", BOB, ADA, 5, "cancelled"),
    Row(4, "t4", "k4", BOB, ADA, 10, "completed"),
]
LEGS = [
    (1, BANK, -100, -100),
    (1, ADA, 100, 100),
    (2, ADA, -30, 70),
    (2, BOB, 30, 30),
    (4, BOB, -10, 20),
    (4, ADA, 10, 80),
]
BALANCES = {BANK: -100, ADA: 80, BOB: 20}


def submission(number: int, row: Row, **seen: object) -> Submission:
    """A successful submission: begun at second N, answered and ended within it."""
    values = {
        "key": f"k{number}",
        "payer": row.payer,
        "payee": row.payee,
        "amount": row.amount,
        "invoked_at": float(number),
        "answered_at": number + 0.1,
        "ended_at": number + 0.2,
        "bodies": {row.id.encode()},
        "id": row.id,
        "status": row.status,
    }
    return Submission(**{**values, **seen})  # type: ignore[arg-type]


def good() -> tuple[History, Ledger]:
    """A run without findings."""
    history = History([submission(row.sequence, row) for row in ROWS if row.key])
    return history, Ledger(list(ROWS), list(LEGS), dict(BALANCES), BANK)


# --- plans -------------------------------------------------------------------------------------------------------


def test_seed_determines_the_plan() -> None:
    assert make_plan(7, 50) == make_plan(7, 50)
    assert make_plan(7, 50) != make_plan(8, 50)


def test_plan_has_the_requested_kills_and_every_other_fault() -> None:
    plan = make_plan(3, 50)
    kinds = Counter(fault.kind for fault in plan)
    assert kinds["kill"] + kinds["kill everything"] == 50
    assert len(kinds) == 19
    assert plan == sorted(plan, key=lambda fault: fault.at)
    assert plan[-1].at <= 50 * SECONDS_PER_KILL


# --- the model ---------------------------------------------------------------------------------------------------


def test_model_moves_money_in_order_and_fails_uncovered_transfers() -> None:
    too_much = Row(5, "t5", "k5", BOB, ADA, 21, "completed")
    balances, legs, statuses = replay([*ROWS, too_much], BANK)
    assert (balances, legs) == (BALANCES, LEGS)
    assert statuses == {1: "completed", 2: "completed", 3: "cancelled", 4: "completed", 5: "failed"}


# --- the checks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS)
def test_checks_find_nothing_in_a_good_run(check: object) -> None:
    assert check(*good()) == []  # type: ignore[operator]


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("legs", LEGS[:-2]),
        ("legs", [*LEGS, (4, BOB, -10, 10), (4, ADA, 10, 90)]),
        ("balances", BALANCES | {ADA: 81}),
        ("rows", [*ROWS[:3], replace(ROWS[3], status="failed")]),
        ("rows", [ROWS[0], ROWS[1], replace(ROWS[2], status="completed"), ROWS[3]]),
    ],
)
def test_difference_from_the_model_is_found(what: str, value: object) -> None:
    history, ledger = good()
    assert follows_the_model(history, replace(ledger, **{what: value}))


def test_lost_changed_doubled_and_unsubmitted_transfers_are_found() -> None:
    history, ledger = good()
    for rows in (
        ROWS[:3],
        [*ROWS[:3], replace(ROWS[3], amount=11)],
        [*ROWS[:3], replace(ROWS[3], id="another")],
        [*ROWS, replace(ROWS[3], sequence=5, id="t5")],
        [*ROWS, replace(ROWS[3], sequence=5, id="t5", key="k5")],
    ):
        assert loses_and_doubles_nothing(history, replace(ledger, rows=rows)), rows


def test_recorded_transfer_that_was_reported_as_unrecorded_is_found() -> None:
    history, ledger = good()
    history.submissions[0] = submission(2, ROWS[1], id=None, bodies=set())
    assert loses_and_doubles_nothing(history, ledger)
    history.submissions[0].doubtful = True
    assert loses_and_doubles_nothing(history, ledger) == ["k2 was never resolved"]


def test_different_bodies_for_one_key_are_found() -> None:
    history, ledger = good()
    history.submissions[0].bodies.add(b"another")
    assert answers_one_key_with_the_same_bytes(history, ledger)


def test_order_against_real_time_is_found() -> None:
    history, ledger = good()
    early, _, late = history.submissions
    late.invoked_at, late.answered_at, late.ended_at = 1.0, 1.1, None
    assert early.invoked_at > late.answered_at
    assert respects_real_time_order(history, ledger) == ["k4 existed before k2 was submitted, but comes after it"] or (
        respects_real_time_order(history, ledger)[0].startswith("k4 existed before")
    )


def test_concurrent_transfers_may_have_any_order() -> None:
    history, ledger = good()
    late = history.submissions[-1]
    late.invoked_at, late.answered_at = 1.0, 5.0
    assert respects_real_time_order(history, ledger) == []


@pytest.mark.parametrize("status", ["pending", "failed", "cancelled"])
def test_transfer_with_a_missing_or_different_end_is_found(status: str) -> None:
    history, ledger = good()
    assert ends_everything(history, replace(ledger, rows=[*ROWS[:3], replace(ROWS[3], status=status)]))


def test_wrong_sums_of_pages_and_impossible_answers_are_found() -> None:
    history, ledger = good()
    history.wrong_sums.append("99 on 2 accounts")
    history.problems.append("k2 was accepted, and is not there")
    assert conserves_money(history, ledger)
    assert matches_what_clients_saw(history, ledger)


# --- the report --------------------------------------------------------------------------------------------------


def test_table_names_the_seed_of_each_failed_check() -> None:
    held = Result(seed=1, kills=1, faults=Counter(kill=1), recoveries=[1.0, 3.0], findings={"verify": []})
    broke = Result(seed=2, kills=1, findings={"verify": ["legs_balance: 5"]})
    assert one_line(held).startswith("seed 1: 1 kills")
    assert one_line(broke).endswith("DOES NOT HOLD: verify")
    assert "median 2.00 s, at most 3.00 s" in table([held])
    assert "yes  verify" in table([held])
    assert "no: seed 2  verify" in table([held, broke])
    assert "legs_balance: 5" in table([held, broke])
