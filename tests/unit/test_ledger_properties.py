"""Any sequence of transfers: money is conserved, no limit is passed, every transfer ends once (Hypothesis)."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from core.domain.accounts import AccountStatus, FreezeScope
from core.domain.errors import ErrorCode
from core.domain.ledger import FAILURES, LedgerAccount, PendingTransfer, Settlement, refusal, settle
from core.domain.money import CUSTOMER_BALANCE_BOUND, EXTERNAL_BALANCE_BOUND, MAX_AMOUNT
from tests.unit.ledger_builders import account, external

ACCOUNTS = 6
STATES = [
    (AccountStatus.ACTIVE, None),
    (AccountStatus.FROZEN, FreezeScope.DEBIT),
    (AccountStatus.FROZEN, FreezeScope.ALL),
    (AccountStatus.CLOSED, None),
]


@dataclass
class Run:
    """A book before and after a sequence of transfers, and what became of them."""

    transfers: list[PendingTransfer]
    before: dict[int, LedgerAccount]
    after: dict[int, LedgerAccount]
    done: Settlement


@st.composite
def customers(draw: st.DrawFn, number: int) -> LedgerAccount:
    limit = draw(st.sampled_from([0, 0, 100, 5000, CUSTOMER_BALANCE_BOUND]))
    near_the_edges = st.sampled_from([0, 1000, CUSTOMER_BALANCE_BOUND, CUSTOMER_BALANCE_BOUND - 500, -limit])
    status, scope = draw(st.sampled_from([STATES[0]] * 5 + STATES))
    return account(
        number,
        currency=draw(st.sampled_from(["USD", "USD", "JPY"])),
        balance=draw(st.integers(0, 2000) | near_the_edges),
        overdraft_limit=limit,
        status=status,
        freeze_scope=scope,
        owner_active=draw(st.sampled_from([True, True, True, False])),
    )


@st.composite
def books(draw: st.DrawFn) -> dict[int, LedgerAccount]:
    book = {number: draw(customers(number)) for number in range(1, ACCOUNTS - 1)}
    edge = st.sampled_from([0, EXTERNAL_BALANCE_BOUND, -EXTERNAL_BALANCE_BOUND, 300 - EXTERNAL_BALANCE_BOUND])
    for number, currency in ((ACCOUNTS - 1, "USD"), (ACCOUNTS, "JPY")):
        book[number] = external(number, currency=currency, balance=draw(edge))
    return book


@st.composite
def runs(draw: st.DrawFn) -> Run:
    book = draw(books())
    sides = st.sampled_from(sorted(book))
    amounts = st.integers(1, 600) | st.sampled_from(sorted({1, MAX_AMOUNT, *edges(book)}))
    orders = draw(st.lists(st.tuples(sides, sides, amounts), max_size=40))
    transfers = [PendingTransfer(number, *order) for number, order in enumerate(orders, start=100)]
    for transfer in transfers:
        book[transfer.from_account_id].reserved += transfer.amount
    before = {number: copy_of(item) for number, item in book.items()}
    return Run(transfers, before, book, settle(transfers, book, next_leg_id=1000))


def edges(book: dict[int, LedgerAccount]) -> set[int]:
    """Amounts that just reach a limit of some account, and those that pass it by one."""
    rooms = {room for item in book.values() for room in (item.balance - item.floor, item.ceiling - item.balance)}
    return {room + more for room in rooms for more in (0, 1) if 1 <= room + more <= MAX_AMOUNT}


def copy_of(item: LedgerAccount) -> LedgerAccount:
    return LedgerAccount(**{name: getattr(item, name) for name in LedgerAccount.__slots__})


@given(runs())
def test_money_is_conserved_in_every_currency(run: Run) -> None:
    def sums(book: dict[int, LedgerAccount]) -> Counter[str]:
        totals: Counter[str] = Counter()
        for item in book.values():
            totals[item.currency] += item.balance
        return totals

    assert sums(run.before) == sums(run.after)


@given(runs())
def test_no_balance_passes_its_floor_or_its_ceiling(run: Run) -> None:
    touched = {leg.account_id for leg in run.done.legs}
    for number in touched:
        floor = -EXTERNAL_BALANCE_BOUND if number >= ACCOUNTS - 1 else -run.before[number].overdraft_limit
        ceiling = EXTERNAL_BALANCE_BOUND if number >= ACCOUNTS - 1 else CUSTOMER_BALANCE_BOUND
        assert all(floor <= leg.balance_after <= ceiling for leg in run.done.legs if leg.account_id == number)


@given(runs())
def test_every_transfer_ends_exactly_once(run: Run) -> None:
    ended = [transfer.id for transfer in run.done.completed] + [transfer.id for transfer, _ in run.done.failed]
    assert sorted(ended) == [transfer.id for transfer in run.transfers]


@given(runs())
def test_legs_come_in_pairs_that_agree_with_a_completed_transfer(run: Run) -> None:
    pairs = list(zip(run.done.legs[::2], run.done.legs[1::2], strict=True))
    assert [debit.transfer_id for debit, _ in pairs] == [transfer.id for transfer in run.done.completed]
    for (debit, credit), transfer in zip(pairs, run.done.completed, strict=True):
        assert (debit.transfer_id, debit.account_id, debit.amount) == (
            transfer.id,
            transfer.from_account_id,
            -transfer.amount,
        )
        assert (credit.transfer_id, credit.account_id, credit.amount) == (
            transfer.id,
            transfer.to_account_id,
            transfer.amount,
        )


@given(runs())
def test_transfers_complete_and_fail_in_the_order_of_their_acceptance(run: Run) -> None:
    for ended in ([item.id for item in run.done.completed], [item.id for item, _ in run.done.failed]):
        assert ended == sorted(ended)


@given(runs())
def test_every_balance_after_recomputes_from_the_legs(run: Run) -> None:
    running = {number: item.balance for number, item in run.before.items()}
    for leg in run.done.legs:
        running[leg.account_id] += leg.amount
        assert leg.balance_after == running[leg.account_id]
    assert running == {number: item.balance for number, item in run.after.items()}


@given(runs())
def test_every_accounts_chain_is_whole(run: Run) -> None:
    last: dict[int, int | None] = defaultdict(lambda: None)
    assert [leg.id for leg in run.done.legs] == list(range(1000, 1000 + len(run.done.legs)))
    for leg in run.done.legs:
        assert leg.previous_id == last[leg.account_id]
        last[leg.account_id] = leg.id
    assert all(item.last_transaction_id == last[number] for number, item in run.after.items())


@given(runs())
def test_every_reservation_is_given_back(run: Run) -> None:
    assert all(item.reserved == 0 for item in run.after.values())


@given(runs())
def test_what_fails_fails_in_one_of_the_known_ways(run: Run) -> None:
    same = {ErrorCode.SAME_ACCOUNT, ErrorCode.CURRENCY_MISMATCH}
    assert {reason for _, reason in run.done.failed} <= FAILURES | same


@given(runs())
def test_a_transfer_fails_only_for_the_reason_that_the_rules_give_at_its_turn(run: Run) -> None:
    why = {transfer.id: reason for transfer, reason in run.done.failed}
    for transfer in run.transfers:
        payer, payee = run.before[transfer.from_account_id], run.before[transfer.to_account_id]
        expected = refusal(payer, payee, transfer.amount, spoken_for=0)
        assert why.get(transfer.id) == (expected if payer.owner_active else ErrorCode.OWNER_INACTIVE)
        if transfer.id not in why:
            payer.balance -= transfer.amount
            payee.balance += transfer.amount


@given(runs())
def test_settling_in_two_batches_is_the_same_as_in_one(run: Run) -> None:
    book = {number: copy_of(item) for number, item in run.before.items()}
    half = len(run.transfers) // 2
    first = settle(run.transfers[:half], book, next_leg_id=1000)
    second = settle(run.transfers[half:], book, next_leg_id=1000 + len(first.legs))
    assert first.legs + second.legs == run.done.legs
    assert first.failed + second.failed == run.done.failed
    assert book == run.after
