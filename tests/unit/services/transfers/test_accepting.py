"""Accepting transfers: refusals in the published order, groups, reservations, and recorded rows."""

from collections.abc import Callable
from itertools import combinations
from uuid import UUID

import pytest

from core.clock import now_us, to_us
from core.domain.accounts import AccountError
from core.domain.errors import ErrorCode, Part, Refusal
from core.domain.money import CUSTOMER_BALANCE_BOUND, MAX_AMOUNT
from core.domain.transfers import AcceptedTransfer, TransferError, TransferKind, TransferRequest, TransferStatus
from core.ids import new_id
from core.services.transfers import accepting
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    BOUNDS,
    WHOLE_TRANSFERS,
    Bank,
    accept,
    accepted,
    account_row,
    balance_of,
    close,
    deactivate,
    deposit_request,
    external_account,
    freeze,
    from_ada_to_bob,
    from_bob_to_ada,
    ledger,
    look_up,
    open_account,
    reserved_of,
    rows,
    set_account,
    settle_all,
    transfer_request,
    withdrawal_request,
)


def refusal_of(database: Database, request: TransferRequest) -> tuple[ErrorCode, Part | None]:
    """Submit a request that must be rejected, and check that nothing was recorded."""
    before = ledger(database)
    (outcome,) = accept(database, request)
    assert isinstance(outcome, Refusal)
    assert ledger(database) == before
    return outcome.code, outcome.about


def number_of(database: Database, account: UUID) -> str:
    number: str = account_row(database, account)["account_number"]
    return number


# --- recorded rows ---


def test_an_accepted_transfer_is_pending_and_its_funds_are_reserved(database: Database, bank: Bank) -> None:
    request = from_ada_to_bob(bank, 300, currency="USD", description="for lunch", request_id="r-1")
    transfer = accepted(database, request)
    view = look_up(database, transfer)
    assert (view.id, view.sequence, view.status, view.kind) == (
        transfer.id,
        transfer.sequence,
        TransferStatus.PENDING,
        TransferKind.TRANSFER,
    )
    assert (view.from_account_id, view.to_account_id) == (bank.ada_account, bank.bob_account)
    assert (view.amount, view.currency, view.description) == (300, "USD", "for lunch")
    assert (view.settled_at, view.failure_code, view.submitted_by) == (None, None, bank.ada.id)
    assert view.created_at == transfer.created_at
    assert (transfer.request_id, transfer.replayed, transfer.answer_version) == ("r-1", False, accepting.ANSWER_VERSION)
    assert (balance_of(database, bank.ada_account), reserved_of(database, bank.ada_account)) == (1000, 300)
    assert (balance_of(database, bank.bob_account), reserved_of(database, bank.bob_account)) == (0, 0)


def test_a_payee_can_be_named_by_account_number(database: Database, bank: Bank) -> None:
    request = from_ada_to_bob(bank)._replace(payee=number_of(database, bank.bob_account))
    assert accepted(database, request).to_account_id == bank.bob_account


def test_an_account_named_by_id_and_by_number_in_one_group_is_one_account(database: Database, bank: Bank) -> None:
    number = number_of(database, bank.ada_account)
    group = accept(
        database,
        from_ada_to_bob(bank, 600),
        deposit_request(bank.ada_account, 100)._replace(payee=number),
        from_ada_to_bob(bank, 401),
        from_ada_to_bob(bank, 400),
    )
    assert [isinstance(outcome, AcceptedTransfer) for outcome in group] == [True, True, False, True]


def test_sequences_increase_by_one_in_the_order_of_the_group(database: Database, bank: Bank) -> None:
    first = accepted(database, from_ada_to_bob(bank, 1))
    group = accept(database, *(from_ada_to_bob(bank, amount) for amount in (2, 3, 4)))
    assert [item.sequence for item in group if isinstance(item, AcceptedTransfer)] == [
        first.sequence + step for step in (1, 2, 3)
    ]


def test_a_refusal_leaves_no_gap_in_the_sequence(database: Database, bank: Bank) -> None:
    first, refused, second = accept(
        database, from_ada_to_bob(bank, 1), from_ada_to_bob(bank, 5000), from_ada_to_bob(bank, 1)
    )
    assert isinstance(refused, Refusal)
    assert isinstance(first, AcceptedTransfer)
    assert isinstance(second, AcceptedTransfer)
    assert second.sequence == first.sequence + 1


def test_each_transfer_names_the_one_before_it_from_the_same_account(database: Database, bank: Bank) -> None:
    fund_bob = accepted(database, deposit_request(bank.bob_account, 500))
    settle_all(database)
    a, b, c = accept(database, from_ada_to_bob(bank, 1), from_bob_to_ada(bank, 1), from_ada_to_bob(bank, 2))
    d = accepted(database, from_ada_to_bob(bank, 3))
    assert all(isinstance(item, AcceptedTransfer) for item in (a, b, c))
    previous = {row["id"]: row["previous_id"] for row in rows(database, "SELECT id, previous_id FROM transfers")}
    chain = [d.sequence]
    while (before := previous[chain[-1]]) is not None:
        chain.append(before)
    assert chain == [d.sequence, c.sequence, a.sequence]  # type: ignore[union-attr]
    assert previous[b.sequence] is None  # type: ignore[union-attr]
    assert previous[fund_bob.sequence] == fund_bob.sequence - 1, "the external account's chain"
    assert account_row(database, bank.ada_account)["last_transfer_id"] == d.sequence


def test_times_never_decrease_even_if_the_clock_goes_back(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = now_us() + 1_000_000
    seen = []
    for clock in (then, then - 3_600_000_000, then + 5):
        monkeypatch.setattr(accepting, "now_us", lambda clock=clock: clock)
        seen.append(to_us(accepted(database, from_ada_to_bob(bank)).created_at))
    assert seen == [then, then, then + 5]


def test_an_empty_group_records_nothing(database: Database, bank: Bank) -> None:
    before = ledger(database)
    assert accept(database) == []
    assert ledger(database) == before


def test_a_group_of_refusals_writes_nothing_at_all(database: Database, bank: Bank) -> None:
    refused = [from_ada_to_bob(bank, 5000), from_bob_to_ada(bank, 1), from_ada_to_bob(bank)._replace(payee=new_id())]
    with unit_of_work(database) as connection:
        before = connection.exec_driver_sql("SELECT total_changes()").scalar_one()
        outcomes = accepting.accept(connection, refused, BOUNDS)
        assert [type(outcome) for outcome in outcomes] == [Refusal] * 3
        assert connection.exec_driver_sql("SELECT total_changes()").scalar_one() == before, "not even the lane"


def test_a_transfer_of_a_rolled_back_unit_of_work_was_never_accepted(database: Database, bank: Bank) -> None:
    before = ledger(database)
    with pytest.raises(ZeroDivisionError), unit_of_work(database) as connection:
        accepting.accept(connection, [from_ada_to_bob(bank)], BOUNDS)
        raise ZeroDivisionError
    assert ledger(database) == before
    assert reserved_of(database, bank.ada_account) == 0
    assert rows(database, f"SELECT * FROM {WHOLE_TRANSFERS} WHERE status = 'pending'") == []


# --- deposits and withdrawals ------------------------------------------------------------------------------------


def test_a_deposit_comes_from_the_currencys_external_account(database: Database, bank: Bank) -> None:
    deposit = accepted(database, deposit_request(bank.bob_account, 50))
    outside = external_account(database)
    assert (deposit.kind, deposit.from_account_id, deposit.to_account_id) == (
        TransferKind.DEPOSIT,
        UUID(bytes=outside["public_id"]),
        bank.bob_account,
    )
    assert outside["reserved"] == 50
    settle_all(database)
    assert (external_account(database)["balance"], balance_of(database, bank.bob_account)) == (-1050, 50)


def test_a_withdrawal_goes_to_the_currencys_external_account(database: Database, bank: Bank) -> None:
    withdrawal = accepted(database, withdrawal_request(bank.ada_account, 400))
    assert withdrawal.to_account_id == UUID(bytes=external_account(database)["public_id"])
    assert reserved_of(database, bank.ada_account) == 400
    settle_all(database)
    assert (external_account(database)["balance"], balance_of(database, bank.ada_account)) == (-600, 600)


def test_each_currency_has_its_own_external_account(database: Database, bank: Bank) -> None:
    with unit_of_work(database) as connection:
        yen = open_account(connection, bank.ada, "JPY")
    dollars, yens = accept(database, deposit_request(bank.ada_account, 1), deposit_request(yen, 2))
    assert isinstance(dollars, AcceptedTransfer)
    assert isinstance(yens, AcceptedTransfer)
    assert (dollars.currency, yens.currency) == ("USD", "JPY")
    assert dollars.from_account_id != yens.from_account_id


def test_a_withdrawal_needs_funds_and_a_deposit_needs_room(database: Database, bank: Bank) -> None:
    assert refusal_of(database, withdrawal_request(bank.ada_account, 1001))[0] is TransferError.INSUFFICIENT_FUNDS
    for _ in range(9):
        accepted(database, deposit_request(bank.bob_account, MAX_AMOUNT))
    settle_all(database)
    assert balance_of(database, bank.bob_account) == CUSTOMER_BALANCE_BOUND
    assert refusal_of(database, deposit_request(bank.bob_account, 1)) == (
        TransferError.BALANCE_LIMIT_EXCEEDED,
        Part.AMOUNT,
    )


def test_a_customer_cannot_name_the_external_account(database: Database, bank: Bank) -> None:
    outside = UUID(bytes=external_account(database)["public_id"])
    number = external_account(database)["account_number"]
    for request in (
        from_ada_to_bob(bank)._replace(payee=outside),
        from_ada_to_bob(bank)._replace(payee=number),
        from_ada_to_bob(bank)._replace(payer=outside),
        deposit_request(outside),
        withdrawal_request(outside),
    ):
        assert refusal_of(database, request)[0] is AccountError.NOT_FOUND


# --- refusals ----------------------------------------------------------------------------------------------------

Spoil = Callable[[Database, Bank, TransferRequest], TransferRequest]


def same_account(_database: Database, _bank: Bank, request: TransferRequest) -> TransferRequest:
    return request._replace(payee=request.payer)


def unknown_source(_database: Database, _bank: Bank, request: TransferRequest) -> TransferRequest:
    return request._replace(payer=new_id())


def source_of_somebody_else(_database: Database, bank: Bank, request: TransferRequest) -> TransferRequest:
    return request._replace(submitted_by=bank.bob.id)


def unknown_destination(_database: Database, _bank: Bank, request: TransferRequest) -> TransferRequest:
    return request._replace(payee=new_id()) if request.payee != request.payer else request


def other_currency(_database: Database, _bank: Bank, request: TransferRequest) -> TransferRequest:
    return request._replace(currency="EUR")


def source_frozen(database: Database, bank: Bank, request: TransferRequest) -> TransferRequest:
    freeze(database, bank.ada_account, "debit")
    return request


def source_closed(database: Database, bank: Bank, request: TransferRequest) -> TransferRequest:
    close(database, bank.ada_account)
    return request


def destination_in_another_currency(database: Database, bank: Bank, request: TransferRequest) -> TransferRequest:
    set_account(database, bank.bob_account, currency="JPY")
    return request


def destination_frozen(database: Database, bank: Bank, request: TransferRequest) -> TransferRequest:
    freeze(database, bank.bob_account, "all")
    return request


def destination_closed(database: Database, bank: Bank, request: TransferRequest) -> TransferRequest:
    close(database, bank.bob_account)
    return request


def too_much(_database: Database, _bank: Bank, request: TransferRequest) -> TransferRequest:
    return request._replace(amount=1001)


def destination_full(database: Database, bank: Bank, request: TransferRequest) -> TransferRequest:
    set_account(database, bank.bob_account, balance=CUSTOMER_BALANCE_BOUND)
    return request


PUBLISHED_ORDER: list[tuple[int, Spoil, ErrorCode, str | None]] = [
    (1, same_account, TransferError.SAME_ACCOUNT, Part.PAYEE),
    (2, unknown_source, AccountError.NOT_FOUND, Part.PAYER),
    (2, source_of_somebody_else, AccountError.NOT_FOUND, Part.PAYER),
    (3, other_currency, TransferError.CURRENCY_MISMATCH, Part.CURRENCY),
    (4, source_frozen, AccountError.FROZEN, None),
    (4, source_closed, AccountError.CLOSED, None),
    (5, too_much, TransferError.INSUFFICIENT_FUNDS, Part.AMOUNT),
    (6, unknown_destination, AccountError.NOT_FOUND, Part.PAYEE),
    (7, destination_in_another_currency, TransferError.CURRENCY_MISMATCH, None),
    (8, destination_frozen, TransferError.PAYEE_CANNOT_RECEIVE, Part.PAYEE),
    (8, destination_closed, TransferError.PAYEE_CANNOT_RECEIVE, Part.PAYEE),
    (9, destination_full, TransferError.BALANCE_LIMIT_EXCEEDED, Part.AMOUNT),
]
ONE_THING_CANNOT_BE_BOTH = {(same_account, unknown_source)}
PAIRS = [
    (first, later)
    for first, later in combinations(PUBLISHED_ORDER, 2)
    if first[0] != later[0] and (first[1], later[1]) not in ONE_THING_CANNOT_BE_BOTH
]


@pytest.mark.parametrize(("_rank", "spoil", "code", "part"), PUBLISHED_ORDER, ids=lambda x: getattr(x, "__name__", ""))
def test_each_reason_to_refuse_names_the_field_that_it_concerns(
    database: Database, bank: Bank, _rank: int, spoil: Spoil, code: ErrorCode, part: Part | None
) -> None:
    assert refusal_of(database, spoil(database, bank, from_ada_to_bob(bank))) == (code, part)


@pytest.mark.parametrize(("first", "later"), PAIRS, ids=lambda reason: reason[1].__name__)
def test_of_two_reasons_the_earlier_in_the_published_order_is_given(
    database: Database,
    bank: Bank,
    first: tuple[int, Spoil, ErrorCode, str | None],
    later: tuple[int, Spoil, ErrorCode, str | None],
) -> None:
    request = from_ada_to_bob(bank)
    for _rank, spoil, _code, _field in (first, later):
        request = spoil(database, bank, request)
    assert refusal_of(database, request) == first[2:]


def test_the_same_account_by_number_is_rejected_like_by_id(database: Database, bank: Bank) -> None:
    request = from_ada_to_bob(bank)._replace(payee=number_of(database, bank.ada_account))
    assert refusal_of(database, request) == (TransferError.SAME_ACCOUNT, Part.PAYEE_NUMBER)


def test_an_unknown_number_is_rejected_like_an_unknown_id(database: Database, bank: Bank) -> None:
    request = from_ada_to_bob(bank)._replace(payee="XG00GIRO00000000000000")
    assert refusal_of(database, request) == (AccountError.NOT_FOUND, Part.PAYEE_NUMBER)


def test_a_payer_without_the_funds_learns_nothing_of_any_payee(database: Database, bank: Bank) -> None:
    with unit_of_work(database) as connection:
        frozen, closed, yen = (open_account(connection, bank.bob, currency) for currency in ("USD", "USD", "JPY"))
    freeze(database, frozen)
    close(database, closed)
    poor = from_ada_to_bob(bank, 1001)
    names = (new_id(), frozen, closed, yen, number_of(database, frozen), number_of(database, bank.ada_account), "none")
    requests = [poor._replace(payee=name) for name in names] + [poor._replace(payee=yen, currency="USD")]
    refusals = {refusal_of(database, request) for request in requests}
    assert refusals == {(TransferError.INSUFFICIENT_FUNDS, Part.AMOUNT)}


def test_the_currency_of_the_request_is_compared_with_both_accounts(database: Database, bank: Bank) -> None:
    with unit_of_work(database) as connection:
        yen = open_account(connection, bank.bob, "JPY")
    request = from_ada_to_bob(bank)._replace(payee=yen, currency="USD")
    assert refusal_of(database, request) == (TransferError.CURRENCY_MISMATCH, Part.CURRENCY)


@pytest.mark.parametrize(("spoil", "code"), [(freeze, AccountError.FROZEN), (close, AccountError.CLOSED)])
def test_the_state_of_ones_own_payee_is_told_and_so_is_any_payees_to_an_operator(
    database: Database, bank: Bank, spoil: Callable[[Database, UUID], None], code: ErrorCode
) -> None:
    with unit_of_work(database) as connection:
        own = open_account(connection, bank.ada)
    spoil(database, own)
    assert refusal_of(database, from_ada_to_bob(bank)._replace(payee=own)) == (code, None)
    assert refusal_of(database, deposit_request(own)) == (code, None)


def test_accounts_in_two_currencies_never_pay_each_other(database: Database, bank: Bank) -> None:
    with unit_of_work(database) as connection:
        yen = open_account(connection, bank.bob, "JPY")
    assert refusal_of(database, from_ada_to_bob(bank)._replace(payee=yen))[0] is TransferError.CURRENCY_MISMATCH


def test_pending_incoming_funds_cannot_be_spent(database: Database, bank: Bank) -> None:
    accepted(database, from_ada_to_bob(bank, 500))
    assert refusal_of(database, from_bob_to_ada(bank, 1))[0] is TransferError.INSUFFICIENT_FUNDS


def test_available_funds_include_the_overdraft_limit(database: Database, bank: Bank) -> None:
    set_account(database, bank.ada_account, overdraft_limit=200)
    accepted(database, from_ada_to_bob(bank, 1200))
    assert refusal_of(database, from_ada_to_bob(bank, 1))[0] is TransferError.INSUFFICIENT_FUNDS


def test_a_payee_frozen_for_debits_can_receive(database: Database, bank: Bank) -> None:
    freeze(database, bank.bob_account, "debit")
    accepted(database, from_ada_to_bob(bank))


def test_a_deactivated_payee_can_receive(database: Database, bank: Bank) -> None:
    deactivate(database, bank.bob)
    accepted(database, from_ada_to_bob(bank))


def test_the_bank_withdraws_from_any_account_and_a_customer_pays_only_from_their_own(
    database: Database, bank: Bank
) -> None:
    accepted(database, withdrawal_request(bank.ada_account, 1))
    theirs = transfer_request(submitted_by=bank.bob.id, payer=bank.ada_account, payee=bank.bob_account)
    assert refusal_of(database, theirs) == (AccountError.NOT_FOUND, Part.PAYER)


# --- groups ------------------------------------------------------------------------------------------------------


def test_a_refusal_does_not_affect_the_rest_of_its_group(database: Database, bank: Bank) -> None:
    good = [from_ada_to_bob(bank, amount) for amount in (1, 2, 3, 4)]
    bad = [
        good[0]._replace(payee=new_id()),
        good[0]._replace(amount=5000),
        good[0]._replace(currency="EUR"),
        good[0]._replace(payee=bank.ada_account),
    ]
    group = [request for pair in zip(good, bad, strict=True) for request in pair]
    outcomes = accept(database, *group)
    assert [isinstance(outcome, AcceptedTransfer) for outcome in outcomes] == [True, False] * 4
    assert reserved_of(database, bank.ada_account) == 1 + 2 + 3 + 4


def test_each_request_sees_the_reservations_of_those_before_it(database: Database, bank: Bank) -> None:
    outcomes = accept(database, *(from_ada_to_bob(bank, 400) for _ in range(4)))
    assert [isinstance(outcome, AcceptedTransfer) for outcome in outcomes] == [True, True, False, False]
    assert reserved_of(database, bank.ada_account) == 800


def test_a_smaller_request_is_accepted_after_a_larger_one_was_rejected(database: Database, bank: Bank) -> None:
    outcomes = accept(database, *(from_ada_to_bob(bank, amount) for amount in (600, 500, 400)))
    assert [isinstance(outcome, AcceptedTransfer) for outcome in outcomes] == [True, False, True]
    assert reserved_of(database, bank.ada_account) == 1000


def test_a_group_can_be_as_large_as_the_maximum_setting(database: Database, bank: Bank) -> None:
    group = [from_ada_to_bob(bank, 1, idempotency_key=f"key {number}") for number in range(5000)]
    outcomes = accept(database, *group)
    assert sum(isinstance(outcome, AcceptedTransfer) for outcome in outcomes) == 1000
    assert settle_all(database) == 1000
