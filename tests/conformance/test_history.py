"""The recorded history has the same outcomes, blocks and balances as ever."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.domain.accounts import AccountError
from core.domain.ledger import FAILURES
from core.domain.transfers import TransferError
from tests.conformance.acts import Settle, Step
from tests.conformance.history import BEGINNING, FIRST_MONEY, HISTORY, OPENING
from tests.conformance.pinned import ACCOUNTS, HASHES, OUTLINES
from tests.conformance.playing import NewDatabase, Played, play

UNREACHABLE = {AccountError.CLOSED, TransferError.PAYEE_CLOSED}
"""Failures that no service allows: an account with pending transfers cannot be closed."""


@pytest.fixture(scope="module")
def played(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The end of the whole history on each engine."""
    return play(new_database, HISTORY, BEGINNING, tmp_path_factory.mktemp("files"))


# --- the whole history ---


def test_every_step_has_its_outcome(played: Played) -> None:
    found = [(step, outcome) for step, outcome in zip(HISTORY, played.outcomes, strict=True) if outcome != step.outcome]
    assert found == []


def test_every_block_is_the_recorded_one(played: Played) -> None:
    assert tuple(block.outline for block in played.blocks) == OUTLINES
    assert tuple(block.hash.hex() for block in played.blocks) == HASHES


def test_every_account_has_the_recorded_balance_and_reserved_funds(played: Played) -> None:
    assert played.accounts == ACCOUNTS


def test_verification_finds_nothing(played: Played) -> None:
    assert played.breaches == []


def test_history_has_every_failure_that_can_happen() -> None:
    endings = {ending for step in HISTORY if isinstance(step.act, Settle) for ending in step.outcome}
    assert {code for code in FAILURES if not any(ending.startswith(code) for ending in endings)} == UNREACHABLE


# --- its beginning ---


def test_a_new_database_begins_with_the_recorded_block(new_database: NewDatabase, tmp_path: Path) -> None:
    (genesis,) = play(new_database, (), BEGINNING, tmp_path).blocks
    assert (genesis.outline, genesis.hash.hex()) == (OUTLINES[0], HASHES[0])


# --- other histories ---


def changed(place: int, **changes: Any) -> tuple[Step, ...]:
    """Return the first money with one act changed."""
    step = FIRST_MONEY[place]
    return (*FIRST_MONEY[:place], step._replace(act=replace(step.act, **changes)), *FIRST_MONEY[place + 1 :])


FIRST, SECOND = FIRST_MONEY[:2]
OTHERS = {
    "one minor unit more": changed(1, amount=500_01),
    "an empty description instead of none": changed(1, text=""),
    "another idempotency key": changed(1, key="second"),
    "a smaller unit of work": changed(5, batch=3),
    "one microsecond later": (FIRST, SECOND._replace(at="2026-01-30 09:00:00.000002"), *FIRST_MONEY[2:]),
    "two steps in the other order": (FIRST._replace(act=SECOND.act), SECOND._replace(act=FIRST.act), *FIRST_MONEY[2:]),
}


def head_of(new_database: NewDatabase, folder: Path, steps: Sequence[Step], beginning: str = BEGINNING) -> str:
    """Play the beginning of the history with other first money, and return the hash of the newest block."""
    history = (*OPENING, *steps)
    end = play(new_database, history, beginning, folder)
    assert end.outcomes == [step.outcome for step in history]
    return end.blocks[-1].hash.hex()


def test_the_beginning_of_the_history_ends_in_a_recorded_block(new_database: NewDatabase, tmp_path: Path) -> None:
    assert head_of(new_database, tmp_path, FIRST_MONEY) == HASHES[3]


@pytest.mark.parametrize("steps", OTHERS.values(), ids=OTHERS.keys())
def test_another_history_ends_in_another_block(
    new_database: NewDatabase, tmp_path: Path, steps: tuple[Step, ...]
) -> None:
    assert head_of(new_database, tmp_path, steps) not in HASHES


def test_another_beginning_ends_in_another_block(new_database: NewDatabase, tmp_path: Path) -> None:
    assert head_of(new_database, tmp_path, FIRST_MONEY, "2026-01-30 07:00:00.000008") not in HASHES
