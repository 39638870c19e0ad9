"""The ledger's rules as tables: every reason to refuse, at its boundary, and the precedence of two reasons."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from core.domain import ledger
from core.domain.accounts import AccountError, AccountStatus, FreezeScope
from core.domain.batches import BatchError
from core.domain.errors import ErrorCode
from core.domain.ledger import LedgerAccount, refusal, settle
from core.domain.money import CUSTOMER_BALANCE_BOUND, EXTERNAL_BALANCE_BOUND, MAX_AMOUNT
from core.domain.transfers import TransferError
from tests.unit.ledger_builders import Pending, account, external

FROZEN_FOR_DEBITS = {"status": AccountStatus.FROZEN, "freeze_scope": FreezeScope.DEBIT}
FROZEN = {"status": AccountStatus.FROZEN, "freeze_scope": FreezeScope.ALL}
CLOSED = {"status": AccountStatus.CLOSED}
CEILING = CUSTOMER_BALANCE_BOUND
BOUND = EXTERNAL_BALANCE_BOUND


def decide(payer: LedgerAccount, payee: LedgerAccount, amount: int = 100, spoken_for: int = 0) -> ErrorCode | None:
    return refusal(payer, payee, amount, spoken_for=spoken_for)


@pytest.mark.parametrize(
    ("payer", "payee", "code"),
    [
        ({}, {}, None),
        (FROZEN_FOR_DEBITS, {}, AccountError.FROZEN),
        (FROZEN, {}, AccountError.FROZEN),
        (CLOSED, {}, AccountError.CLOSED),
        ({}, FROZEN_FOR_DEBITS, None),
        ({}, FROZEN, TransferError.PAYEE_FROZEN),
        ({}, CLOSED, TransferError.PAYEE_CLOSED),
        ({"currency": "EUR"}, {}, TransferError.CURRENCY_MISMATCH),
        ({"id": 2}, {}, TransferError.SAME_ACCOUNT),
    ],
)
def test_an_invalid_pair_of_sides_is_rejected(
    payer: dict[str, Any], payee: dict[str, Any], code: ErrorCode | None
) -> None:
    assert decide(account(**{"number": 1, "balance": 1000} | renamed(payer)), account(2, **payee)) == code


def renamed(overrides: dict[str, Any]) -> dict[str, Any]:
    return {("number" if name == "id" else name): value for name, value in overrides.items()}


@pytest.mark.parametrize(
    ("balance", "overdraft_limit", "spoken_for", "amount", "code"),
    [
        (100, 0, 0, 100, None),
        (100, 0, 0, 101, TransferError.INSUFFICIENT_FUNDS),
        (0, 0, 0, 1, TransferError.INSUFFICIENT_FUNDS),
        (0, 100, 0, 100, None),
        (0, 100, 0, 101, TransferError.INSUFFICIENT_FUNDS),
        (-50, 100, 0, 50, None),
        (-50, 100, 0, 51, TransferError.INSUFFICIENT_FUNDS),
        (-100, 100, 0, 1, TransferError.INSUFFICIENT_FUNDS),
        (-200, 100, 0, 1, TransferError.INSUFFICIENT_FUNDS),
        (100, 0, 40, 60, None),
        (100, 0, 40, 61, TransferError.INSUFFICIENT_FUNDS),
        (100, 0, 100, 1, TransferError.INSUFFICIENT_FUNDS),
        (100, 50, 100, 50, None),
        (100, 50, 100, 51, TransferError.INSUFFICIENT_FUNDS),
        (MAX_AMOUNT, 0, 0, MAX_AMOUNT, None),
        (MAX_AMOUNT - 1, 0, 0, MAX_AMOUNT, TransferError.INSUFFICIENT_FUNDS),
        (0, CEILING, 0, MAX_AMOUNT, None),
    ],
)
def test_a_payer_can_use_its_balance_and_its_limit_less_reserved_funds(
    balance: int, overdraft_limit: int, spoken_for: int, amount: int, code: ErrorCode | None
) -> None:
    payer = account(1, balance=balance, overdraft_limit=overdraft_limit)
    assert decide(payer, account(2), amount, spoken_for) == code


@pytest.mark.parametrize(
    ("payee", "amount", "code"),
    [
        (account(2, balance=CEILING - 100), 100, None),
        (account(2, balance=CEILING - 100), 101, TransferError.BALANCE_LIMIT_EXCEEDED),
        (account(2, balance=CEILING), 1, TransferError.BALANCE_LIMIT_EXCEEDED),
        (account(2, balance=CEILING, reserved=500), 1, TransferError.BALANCE_LIMIT_EXCEEDED),
        (external(2, balance=CEILING), MAX_AMOUNT, None),
        (external(2, balance=BOUND - 100), 100, None),
        (external(2, balance=BOUND - 100), 101, TransferError.BALANCE_LIMIT_EXCEEDED),
    ],
)
def test_a_payees_balance_has_a_maximum(payee: LedgerAccount, amount: int, code: ErrorCode | None) -> None:
    assert decide(account(1, balance=MAX_AMOUNT), payee, amount) == code


@pytest.mark.parametrize(
    ("balance", "spoken_for", "amount", "code"),
    [
        (0, 0, MAX_AMOUNT, None),
        (100 - BOUND, 0, 100, None),
        (100 - BOUND, 0, 101, TransferError.BALANCE_LIMIT_EXCEEDED),
        (100 - BOUND, 50, 51, TransferError.BALANCE_LIMIT_EXCEEDED),
        (-BOUND, 0, 1, TransferError.BALANCE_LIMIT_EXCEEDED),
    ],
)
def test_the_external_account_pays_down_to_its_limit_and_never_lacks_funds(
    balance: int, spoken_for: int, amount: int, code: ErrorCode | None
) -> None:
    assert decide(external(1, balance=balance), account(2), amount, spoken_for) == code


def test_an_overdraft_limit_has_no_effect_on_the_external_account() -> None:
    payer = external(1, balance=-BOUND, overdraft_limit=1000)
    assert decide(payer, account(2), 1) is TransferError.BALANCE_LIMIT_EXCEEDED


# --- precedence --------------------------------------------------------------------------------------------------

Spoil = Callable[[LedgerAccount, LedgerAccount], None]


def same_account(payer: LedgerAccount, payee: LedgerAccount) -> None:
    payee.id = payer.id


def currencies_differ(_payer: LedgerAccount, payee: LedgerAccount) -> None:
    payee.currency = "EUR"


def payer_is_frozen(payer: LedgerAccount, _payee: LedgerAccount) -> None:
    payer.status, payer.freeze_scope = AccountStatus.FROZEN, FreezeScope.DEBIT


def payer_is_closed(payer: LedgerAccount, _payee: LedgerAccount) -> None:
    payer.status, payer.freeze_scope = AccountStatus.CLOSED, None


def payee_is_frozen(_payer: LedgerAccount, payee: LedgerAccount) -> None:
    payee.status, payee.freeze_scope = AccountStatus.FROZEN, FreezeScope.ALL


def payee_is_closed(_payer: LedgerAccount, payee: LedgerAccount) -> None:
    payee.status, payee.freeze_scope = AccountStatus.CLOSED, None


def funds_are_short(payer: LedgerAccount, _payee: LedgerAccount) -> None:
    payer.balance = 99


def payee_is_full(_payer: LedgerAccount, payee: LedgerAccount) -> None:
    payee.balance = CEILING


PUBLISHED_ORDER: list[tuple[int, Spoil, ErrorCode]] = [
    (1, payer_is_frozen, AccountError.FROZEN),
    (1, payer_is_closed, AccountError.CLOSED),
    (2, funds_are_short, TransferError.INSUFFICIENT_FUNDS),
    (3, same_account, TransferError.SAME_ACCOUNT),
    (4, currencies_differ, TransferError.CURRENCY_MISMATCH),
    (5, payee_is_frozen, TransferError.PAYEE_FROZEN),
    (5, payee_is_closed, TransferError.PAYEE_CLOSED),
    (6, payee_is_full, TransferError.BALANCE_LIMIT_EXCEEDED),
]
PAIRS = [(first, later) for first, later in combinations(PUBLISHED_ORDER, 2) if first[0] != later[0]]


@pytest.mark.parametrize(("_rank", "spoil", "code"), PUBLISHED_ORDER)
def test_each_single_reason_is_returned(_rank: int, spoil: Spoil, code: ErrorCode) -> None:
    payer, payee = account(1, balance=100), account(2)
    spoil(payer, payee)
    assert decide(payer, payee, 100) is code


@pytest.mark.parametrize(("first", "later"), PAIRS, ids=lambda item: item[1].__name__)
def test_of_two_reasons_the_earlier_in_the_published_order_is_returned(
    first: tuple[int, Spoil, ErrorCode], later: tuple[int, Spoil, ErrorCode]
) -> None:
    payer, payee = account(1, balance=100), account(2)
    later[1](payer, payee)
    first[1](payer, payee)
    assert decide(payer, payee, 100) is first[2]


# --- settling ----------------------------------------------------------------------------------------------------


def test_a_settled_transfer_has_a_debit_and_a_credit_that_continue_the_chains() -> None:
    payer = account(1, balance=500, last_transaction_id=7)
    payee = account(2, balance=30, last_transaction_id=None)
    done = settle([Pending(9, 1, 2, 120)], {1: payer, 2: payee}, next_leg_id=11, posted_at=5)
    debit, credit = done.legs
    assert (debit.id, debit.transfer_id, debit.account_id, debit.amount) == (11, 9, 1, -120)
    assert (debit.balance_after, debit.posted_at, debit.previous_id) == (380, 5, 7)
    assert (credit.id, credit.transfer_id, credit.account_id, credit.amount) == (12, 9, 2, 120)
    assert (credit.balance_after, credit.posted_at, credit.previous_id) == (150, 5, None)
    assert (payer.balance, payer.released, payer.last_transaction_id) == (380, 120, 11)
    assert (payee.balance, payee.released, payee.last_transaction_id) == (150, 0, 12)


def test_a_failed_transfer_moves_no_money_and_releases_its_reservation() -> None:
    payer, payee = account(1, balance=99), account(2)
    done = settle([Pending(9, 1, 2, 100)], {1: payer, 2: payee}, next_leg_id=1, posted_at=5)
    assert done.legs == []
    assert done.failed == {9: TransferError.INSUFFICIENT_FUNDS}
    assert (payer.balance, payer.released, payee.balance) == (99, 100, 0)


def test_each_transfer_sees_the_result_of_those_before_it() -> None:
    book = {1: account(1, balance=100), 2: account(2), 3: account(3)}
    there, on, too_much = Pending(1, 1, 2, 100), Pending(2, 2, 3, 100), Pending(3, 3, 1, 101)
    done = settle([there, on, too_much], book, next_leg_id=1, posted_at=5)
    assert [leg.transfer_id for leg in done.legs] == [1, 1, 2, 2]
    assert done.failed == {3: TransferError.INSUFFICIENT_FUNDS}
    assert [book[number].balance for number in (1, 2, 3)] == [0, 0, 100]


def test_reservations_of_later_transfers_do_not_block_an_earlier_one() -> None:
    payer, payee = account(1, balance=100), account(2)
    first, second = Pending(1, 1, 2, 100), Pending(2, 1, 2, 100)
    done = settle([first, second], {1: payer, 2: payee}, next_leg_id=1, posted_at=5)
    assert [leg.transfer_id for leg in done.legs] == [1, 1]
    assert done.failed == {2: TransferError.INSUFFICIENT_FUNDS}


def test_a_deactivated_owner_cannot_pay_and_that_reason_has_precedence() -> None:
    for _rank, spoil, _code in PUBLISHED_ORDER:
        payer, payee = account(1, balance=100, owner_active=False), account(2)
        spoil(payer, payee)
        book = {1: payer, 2: payee}
        done = settle([Pending(1, 1, 2, 100)], book, next_leg_id=1, posted_at=5)
        assert done.failed == {1: TransferError.OWNER_INACTIVE}


def test_a_deactivated_owner_can_receive() -> None:
    book = {1: account(1, balance=100), 2: account(2, owner_active=False)}
    assert settle([Pending(1, 1, 2, 100)], book, next_leg_id=1, posted_at=5).failed == {}


def test_settling_without_transfers_does_nothing() -> None:
    done = settle([], {}, next_leg_id=1, posted_at=5)
    assert (done.legs, done.failed) == ([], {})


# --- atomic groups ---

BOTH = [(1, 2)]
NOW: dict[str, int] = {"next_leg_id": 1, "posted_at": 5}


@pytest.mark.parametrize(
    ("balance", "amounts", "failed", "left"),
    [
        (100, (60, 40), {}, 0),
        (100, (60, 41), {1: BatchError.FAILED, 2: TransferError.INSUFFICIENT_FUNDS}, 100),
        (100, (101, 1), {1: TransferError.INSUFFICIENT_FUNDS, 2: BatchError.FAILED}, 100),
    ],
)
def test_all_of_an_atomic_group_complete_or_none(
    balance: int, amounts: tuple[int, int], failed: dict[int, ErrorCode], left: int
) -> None:
    payer, payee = account(1, balance=balance, last_transaction_id=7), account(2)
    orders = [Pending(number, 1, 2, amount) for number, amount in enumerate(amounts, start=1)]
    done = settle(orders, {1: payer, 2: payee}, next_leg_id=11, posted_at=5, atomic=BOTH)
    assert done.failed == failed
    assert len(done.legs) == (0 if failed else 4)
    assert (payer.balance, payer.released, payee.balance) == (left, sum(amounts), balance - left)
    assert payer.last_transaction_id == (7 if failed else 13)


def test_a_failed_atomic_group_does_not_affect_transfers_around_it() -> None:
    payer, payee = account(1, balance=100), account(2)
    orders = [Pending(number, 1, 2, amount) for number, amount in ((4, 10), (5, 20), (6, 200), (7, 70))]
    done = settle(orders, {1: payer, 2: payee}, next_leg_id=1, posted_at=5, atomic=[(5, 6)])
    assert [(leg.id, leg.transfer_id, leg.balance_after) for leg in done.legs] == [
        (1, 4, 90),
        (2, 4, 10),
        (3, 7, 20),
        (4, 7, 80),
    ]
    assert done.failed == {5: BatchError.FAILED, 6: TransferError.INSUFFICIENT_FUNDS}


def test_in_an_atomic_group_too_each_transfer_sees_the_result_of_those_before_it() -> None:
    book = {1: account(1, balance=100), 2: account(2), 3: account(3)}
    done = settle([Pending(1, 1, 2, 100), Pending(2, 2, 3, 100)], book, next_leg_id=1, posted_at=5, atomic=BOTH)
    assert done.failed == {}
    assert [book[number].balance for number in (1, 2, 3)] == [0, 0, 100]


# --- running totals ---


def test_an_account_counts_its_legs_and_adds_up_its_credits() -> None:
    payer, payee = account(1, balance=100, released=10**19), account(2, leg_count=7, credits=10**19)
    settle([Pending(n, 1, 2, amount) for n, amount in ((1, 60), (2, 41), (3, 40))], {1: payer, 2: payee}, **NOW)
    assert (payer.leg_count, payer.credits) == (2, 0), "one has failed"
    assert (payee.leg_count, payee.credits) == (9, 10**19 + 100)
    assert (payer.released_count, payer.released, payee.released_count) == (3, 10**19 + 141, 0)


def test_each_leg_of_a_full_number_is_a_milestone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MILESTONE", 2)
    book = {1: account(1, balance=100, leg_count=1, credits=100), 2: account(2)}
    done = settle([Pending(n, 1, 2, n) for n in (1, 2, 3)], book, **NOW)
    assert done.milestones == [(1, 1, 5, 2, 100), (2, 4, 5, 2, 3), (1, 5, 5, 4, 100)]


def test_an_atomic_group_that_fails_leaves_no_totals_and_no_milestones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MILESTONE", 1)
    payer, payee = account(1, balance=100, leg_count=4, credits=9), account(2, leg_count=5, credits=8)
    done = settle([Pending(1, 1, 2, 60), Pending(2, 1, 2, 41)], {1: payer, 2: payee}, **NOW, atomic=BOTH)
    assert done.milestones == []
    assert (payer.leg_count, payer.credits, payer.released_count, payer.released) == (4, 9, 2, 101)
    assert (payee.leg_count, payee.credits) == (5, 8)
