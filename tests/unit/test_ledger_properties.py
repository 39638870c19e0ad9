"""Any sequence of transfers: money is conserved, no limit is exceeded, every transfer ends once (Hypothesis)."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from core.domain.accounts import AccountStatus, FreezeScope
from core.domain.batches import BatchError
from core.domain.ledger import FAILURES, LedgerAccount, Settlement, refusal, settle
from core.domain.money import CUSTOMER_BALANCE_BOUND, EXTERNAL_BALANCE_BOUND, MAX_AMOUNT
from core.domain.transfers import TransferError
from tests.unit.ledger_builders import Pending, account, external

ACCOUNTS = 6
STATES = [
    (AccountStatus.ACTIVE, None),
    (AccountStatus.FROZEN, FreezeScope.DEBIT),
    (AccountStatus.FROZEN, FreezeScope.ALL),
    (AccountStatus.CLOSED, None),
]


@dataclass
class Run:
    """A book before and after a sequence of transfers, and their outcomes."""

    transfers: list[Pending]
    atomic: list[tuple[int, int]]
    """The atomic groups: first and last sequence."""
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
    transfers = [Pending(number, *order) for number, order in enumerate(orders, start=100)]
    before = {number: copy_of(item) for number, item in book.items()}
    atomic = draw(spans(len(transfers)))
    return Run(transfers, atomic, before, book, settle(transfers, book, next_leg_id=1000, posted_at=5, atomic=atomic))


@st.composite
def spans(draw: st.DrawFn, count: int) -> list[tuple[int, int]]:
    cuts = sorted(draw(st.sets(st.integers(100, 100 + count), max_size=8)))
    return [(first, last - 1) for first, last in zip(cuts[::2], cuts[1::2], strict=False)]


def edges(book: dict[int, LedgerAccount]) -> set[int]:
    """Amounts that just reach a limit of some account, and those that exceed it by one."""
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
def test_no_balance_exceeds_its_minimum_or_its_maximum(run: Run) -> None:
    touched = {leg.account_id for leg in run.done.legs}
    for number in touched:
        floor = -EXTERNAL_BALANCE_BOUND if number >= ACCOUNTS - 1 else -run.before[number].overdraft_limit
        ceiling = EXTERNAL_BALANCE_BOUND if number >= ACCOUNTS - 1 else CUSTOMER_BALANCE_BOUND
        assert all(floor <= leg.balance_after <= ceiling for leg in run.done.legs if leg.account_id == number)


@given(runs())
def test_every_transfer_ends_exactly_once(run: Run) -> None:
    completed = {leg.transfer_id for leg in run.done.legs}
    assert completed.isdisjoint(run.done.failed)
    assert completed | run.done.failed.keys() == {transfer.sequence for transfer in run.transfers}


@given(runs())
def test_legs_come_in_pairs_that_match_their_transfer_in_the_order_of_acceptance(run: Run) -> None:
    completed = [transfer for transfer in run.transfers if transfer.sequence not in run.done.failed]
    pairs = zip(run.done.legs[::2], run.done.legs[1::2], strict=True)
    for (debit, credit), transfer in zip(pairs, completed, strict=True):
        assert (debit.transfer_id, debit.account_id, debit.amount) == (
            transfer.sequence,
            transfer.from_account_id,
            -transfer.amount,
        )
        assert (credit.transfer_id, credit.account_id, credit.amount) == (
            transfer.sequence,
            transfer.to_account_id,
            transfer.amount,
        )


@given(runs())
def test_an_atomic_group_completes_whole_or_fails_whole_because_of_one(run: Run) -> None:
    for first, last in run.atomic:
        group = range(first, last + 1)
        reasons = [run.done.failed[sequence] for sequence in group if sequence in run.done.failed]
        assert len(reasons) in (0, len(group))
        assert sum(reason is not BatchError.FAILED for reason in reasons) == (1 if reasons else 0)


@given(runs())
def test_every_balance_after_equals_the_sum_of_the_legs(run: Run) -> None:
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
def test_every_reservation_is_released(run: Run) -> None:
    sent: Counter[int] = Counter()
    for transfer in run.transfers:
        sent[transfer.from_account_id] += transfer.amount
    assert {number: item.released for number, item in run.after.items()} == {
        number: sent[number] for number in run.after
    }


@given(runs())
def test_every_failure_has_a_known_reason(run: Run) -> None:
    same = {TransferError.SAME_ACCOUNT, TransferError.CURRENCY_MISMATCH}
    assert set(run.done.failed.values()) <= FAILURES | same


@given(runs())
def test_a_transfer_fails_only_for_the_reason_that_the_rules_state_at_its_turn(run: Run) -> None:
    balances = {number: item.balance for number, item in run.before.items()}
    groups = {sequence: span for span in run.atomic for sequence in range(span[0], span[1] + 1)}
    for transfer in run.transfers:
        span = groups.get(transfer.sequence)
        if span and span[0] == transfer.sequence:
            balances = {number: item.balance for number, item in run.before.items()}
        payer, payee = run.before[transfer.from_account_id], run.before[transfer.to_account_id]
        why = run.done.failed.get(transfer.sequence)
        if why is BatchError.FAILED and culprit_of(run, span) < transfer.sequence:
            continue  # never tried
        expected = refusal(payer, payee, transfer.amount, spoken_for=0)
        expected = expected if payer.owner_active else TransferError.OWNER_INACTIVE
        assert expected == (None if why is BatchError.FAILED else why)
        if expected is None:
            payer.balance -= transfer.amount
            payee.balance += transfer.amount
        elif span:
            for number, balance in balances.items():
                run.before[number].balance = balance


def culprit_of(run: Run, span: tuple[int, int] | None) -> int:
    """The transfer that made a group fail."""
    assert span is not None, "only a transfer of a group can fail because of another"
    own = [n for n in range(span[0], span[1] + 1) if run.done.failed[n] is not BatchError.FAILED]
    return own[0]


@given(runs())
def test_settling_in_two_batches_equals_settling_in_one(run: Run) -> None:
    book = {number: copy_of(item) for number, item in run.before.items()}
    half = 100 + len(run.transfers) // 2
    half = next((last + 1 for first, last in run.atomic if first < half <= last), half) - 100  # no group is ever split
    first = settle(run.transfers[:half], book, next_leg_id=1000, posted_at=5, atomic=before(run.atomic, 100 + half))
    second = settle(
        run.transfers[half:],
        book,
        next_leg_id=1000 + len(first.legs),
        posted_at=5,
        atomic=run.atomic[len(before(run.atomic, 100 + half)) :],
    )
    assert first.legs + second.legs == run.done.legs
    assert first.failed | second.failed == run.done.failed
    assert book == run.after


def before(spans: list[tuple[int, int]], sequence: int) -> list[tuple[int, int]]:
    """The groups that end before a transfer."""
    return [span for span in spans if span[1] < sequence]
