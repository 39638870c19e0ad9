"""Lists of transfers and transactions: their content, their filters, and pages that add up to one list."""

from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_datetime
from core.domain.accounts import AccountError
from core.domain.errors import Part, Refusal
from core.domain.transfers import AcceptedTransfer, TransferStatus
from core.ids import NEWEST, new_id
from core.services import accounts
from core.services.transfers import accepting, cancelling
from core.services.transfers.listing import TransferFilter, TransferPage, list_for_user
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    WHOLE_TRANSFERS,
    Bank,
    Person,
    accepted,
    bank_of_two,
    close,
    deposit_request,
    freeze,
    from_ada_to_bob,
    from_bob_to_ada,
    fund,
    open_account,
    rows,
    set_account,
    settle_all,
    transfer_request,
)

pytestmark = pytest.mark.funded(ada_has=10_000, bob_has=10_000)

EVERYTHING = TransferFilter()


class Listing:
    """Lists as a user's requests read them: every page in its own session, and so in its own snapshot."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        user: Person,
        wanted: TransferFilter = EVERYTHING,
        *,
        below: int = NEWEST,
        offset: int = 0,
        limit: int = 1000,
    ) -> TransferPage:
        async with AsyncSession(self._database.async_reader) as session:
            return await list_for_user(session, user_id=user.id, wanted=wanted, below=below, offset=offset, limit=limit)

    async def sequences(self, user: Person, **filters: Any) -> list[int]:
        page = await self.page(user, TransferFilter(**filters))
        assert page.next is None
        return [item.sequence for item in page.items]

    async def in_pages(self, user: Person, size: int, **filters: Any) -> list[int]:
        """Follow the cursors to the end."""
        seen: list[int] = []
        below = NEWEST
        while True:
            page = await self.page(user, TransferFilter(**filters), below=below, limit=size)
            assert len(page.items) <= size
            seen += [item.sequence for item in page.items]
            if page.next is None:
                return seen
            below = page.next


@pytest.fixture
async def listing(database: Database) -> Any:
    yield Listing(database)
    await database.async_reader.dispose()


@pytest.fixture
def second(database: Database, bank: Bank) -> UUID:
    """Ada's second account, with a balance."""
    with unit_of_work(database) as connection:
        account = open_account(connection, bank.ada)
    fund(database, account, 5000)
    return account


def between_own(bank: Bank, payer: UUID, payee: UUID, amount: int = 1) -> Any:
    return transfer_request(submitted_by=bank.ada.id, payer=payer, payee=payee, amount=amount)


@pytest.fixture
def busy(database: Database, bank: Bank, second: UUID) -> Bank:
    """A bank with transfers of every kind and status in both directions."""
    for round_ in range(4):
        accepted(database, from_ada_to_bob(bank, 10 + round_))
        accepted(database, between_own(bank, bank.ada_account, second))
        accepted(database, from_bob_to_ada(bank, 20 + round_))
        accepted(database, between_own(bank, second, bank.ada_account))
        accepted(database, deposit_request(second, 5))
        cancelled = accepted(database, from_ada_to_bob(bank, 1))
        with unit_of_work(database) as connection:
            cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=cancelled.id)
        settle_all(database)
        accepted(database, from_bob_to_ada(bank, 7))
        freeze(database, bank.ada_account)
        settle_all(database)
        set_account(database, bank.ada_account, status="active", freeze_scope=None)
    accepted(database, from_ada_to_bob(bank, 3))
    accepted(database, from_bob_to_ada(bank, 3))
    accepted(database, between_own(bank, bank.ada_account, second))
    return bank


def expected_of(database: Database, user: Person, where: str = "1") -> list[int]:
    """A user's list by plain SQL over the whole table, newest first."""
    query = (
        f"SELECT t.id FROM {WHOLE_TRANSFERS} t JOIN accounts p ON p.id = t.from_account_id "
        "JOIN accounts q ON q.id = t.to_account_id "
        f"WHERE (p.owner_id = ?1 OR q.owner_id = ?1 AND t.status = 'completed') AND {where} ORDER BY t.id DESC"
    )
    return [row["id"] for row in rows(database, query, user.id)]


# --- content of a list ---


async def test_a_list_shows_sent_and_received_transfers_newest_first(
    database: Database, busy: Bank, listing: Listing
) -> None:
    for user in (busy.ada, busy.bob):
        assert await listing.sequences(user) == expected_of(database, user)


async def test_an_incoming_transfer_is_shown_only_once_it_is_completed(
    database: Database, bank: Bank, listing: Listing
) -> None:
    before = await listing.sequences(bank.bob)
    transfer = accepted(database, from_ada_to_bob(bank))
    assert await listing.sequences(bank.bob) == before
    assert (await listing.sequences(bank.ada))[0] == transfer.sequence
    settle_all(database)
    assert await listing.sequences(bank.bob) == [transfer.sequence, *before]


async def test_a_transfer_between_own_accounts_is_shown_once(
    database: Database, bank: Bank, second: UUID, listing: Listing
) -> None:
    transfer = accepted(database, between_own(bank, bank.ada_account, second))
    assert (await listing.sequences(bank.ada)).count(transfer.sequence) == 1
    settle_all(database)
    assert (await listing.sequences(bank.ada)).count(transfer.sequence) == 1
    for account in (bank.ada_account, second):
        assert (await listing.sequences(bank.ada, account_id=account)).count(transfer.sequence) == 1


async def test_a_user_without_accounts_has_no_transfers(database: Database, bank: Bank, listing: Listing) -> None:
    operator = Person(1, new_id(), "")
    assert await listing.sequences(operator) == [], "the operator who submits a deposit does not own it"


async def test_a_closed_account_keeps_its_list(database: Database, bank: Bank, listing: Listing) -> None:
    before = await listing.sequences(bank.ada)
    close(database, bank.ada_account)
    assert await listing.sequences(bank.ada) == before != []


# --- filters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", TransferStatus)
async def test_a_list_can_be_filtered_by_status(
    database: Database, busy: Bank, listing: Listing, status: TransferStatus
) -> None:
    expected = {user: expected_of(database, user, f"t.status = '{status}'") for user in (busy.ada, busy.bob)}
    assert any(expected.values())
    for user, sequences in expected.items():
        assert await listing.sequences(user, status=status) == sequences


async def test_a_list_can_be_filtered_by_account(
    database: Database, busy: Bank, second: UUID, listing: Listing
) -> None:
    for account in (busy.ada_account, second):
        row_id = f"(SELECT id FROM accounts WHERE public_id = x'{account.hex}')"
        where = f"(p.id = {row_id} OR q.id = {row_id} AND t.status = 'completed')"
        assert await listing.sequences(busy.ada, account_id=account) == expected_of(database, busy.ada, where)


async def test_another_users_account_has_no_list(bank: Bank, listing: Listing) -> None:
    for account in (bank.bob_account, new_id()):
        with pytest.raises(Refusal) as refused:
            await listing.page(bank.ada, TransferFilter(account_id=account))
        assert (refused.value.code, refused.value.about) == (AccountError.NOT_FOUND, Part.ACCOUNT)


def send_at(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch, times: list[int]
) -> list[AcceptedTransfer]:
    sent = []
    for time in times:
        monkeypatch.setattr(accepting, "now_us", lambda time=time: time)
        sent.append(accepted(database, from_ada_to_bob(bank)))
    return sent


async def test_a_list_can_begin_at_a_time_and_end_before_a_time(
    database: Database, bank: Bank, listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = now_us() + 1_000_000
    sent = send_at(database, bank, monkeypatch, [start + 10 * step for step in range(5)])
    at = [to_datetime(start + 10 * step) for step in range(5)]
    tick = timedelta(microseconds=1)
    for begin, end, expected in (
        (at[1], at[3], sent[1:3]),
        (at[1], at[3] + tick, sent[1:4]),
        (at[1] + tick, at[3], sent[2:3]),
        (at[2], at[2], []),
        (at[3], at[1], []),
        (at[4], None, sent[4:]),
        (at[4] + tick, None, []),
    ):
        found = await listing.sequences(bank.ada, created_from=begin, created_to=end)
        assert found == [item.sequence for item in reversed(expected)]
    assert (await listing.sequences(bank.ada, created_to=at[0]))[0] < sent[0].sequence


async def test_a_key_finds_the_one_transfer_of_its_user(database: Database, bank: Bank, listing: Listing) -> None:
    hers = accepted(database, from_ada_to_bob(bank, idempotency_key="a key"))
    his = accepted(database, from_bob_to_ada(bank, idempotency_key="a key"))
    settle_all(database)
    assert await listing.sequences(bank.ada, idempotency_key="a key") == [hers.sequence]
    assert await listing.sequences(bank.bob, idempotency_key="a key") == [his.sequence]
    assert await listing.sequences(bank.ada, idempotency_key="another") == []
    assert await listing.sequences(bank.ada, idempotency_key="a key", status=TransferStatus.PENDING) == []
    assert (await listing.page(bank.ada, TransferFilter(idempotency_key="a key"), offset=1)).items == []


@pytest.mark.parametrize("whose", ["payer", "payee", "somebody else's"])
async def test_a_key_and_an_account_find_only_transfers_of_that_account(
    database: Database, bank: Bank, second: UUID, listing: Listing, whose: str
) -> None:
    transfer = accepted(
        database,
        transfer_request(
            submitted_by=bank.ada.id, payer=bank.ada_account, payee=bank.bob_account, idempotency_key="a key"
        ),
    )
    settle_all(database)
    if whose == "payer":
        found = await listing.sequences(bank.ada, idempotency_key="a key", account_id=bank.ada_account)
        assert found == [transfer.sequence]
    elif whose == "payee":
        assert await listing.sequences(bank.ada, idempotency_key="a key", account_id=second) == []
    else:
        with pytest.raises(Refusal):
            await listing.sequences(bank.ada, idempotency_key="a key", account_id=bank.bob_account)


# --- pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 13, 100])
async def test_pages_of_any_size_add_up_to_the_list(
    database: Database, busy: Bank, listing: Listing, size: int
) -> None:
    for user in (busy.ada, busy.bob):
        assert await listing.in_pages(user, size) == expected_of(database, user)


@pytest.mark.parametrize(("status", "size"), list(product(TransferStatus, [1, 2, 5])))
async def test_filtered_pages_add_up_to_the_filtered_list(
    database: Database, busy: Bank, listing: Listing, status: TransferStatus, size: int
) -> None:
    expected = expected_of(database, busy.ada, f"t.status = '{status}'")
    assert await listing.in_pages(busy.ada, size, status=status) == expected


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_pages_of_one_account_add_up(busy: Bank, second: UUID, listing: Listing, size: int) -> None:
    for account in (busy.ada_account, second):
        whole = await listing.sequences(busy.ada, account_id=account)
        assert await listing.in_pages(busy.ada, size, account_id=account) == whole


@pytest.mark.parametrize("status", [None, *TransferStatus])
async def test_a_page_is_full_although_one_account_has_all_transfers_of_many(
    database: Database, bank: Bank, listing: Listing, status: TransferStatus | None
) -> None:
    with unit_of_work(database) as connection:
        for _ in range(9):
            open_account(connection, bank.ada)

    def send() -> list[UUID]:
        return [accepted(database, from_ada_to_bob(bank, 1)).id for _ in range(40)]

    send()
    settle_all(database)
    send()
    freeze(database, bank.ada_account)
    settle_all(database)
    set_account(database, bank.ada_account, status="active", freeze_scope=None)
    for transfer in send():
        with unit_of_work(database) as connection:
            cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=transfer)
    send()
    whole = expected_of(database, bank.ada, "1" if status is None else f"t.status = '{status}'")
    assert len(whole) >= 40
    for size in (7, 35):
        page = await listing.page(bank.ada, TransferFilter(status=status), limit=size)
        assert [item.sequence for item in page.items] == whole[:size]
        assert await listing.in_pages(bank.ada, size, status=status) == whole


async def test_an_offset_skips_that_many_transfers(database: Database, busy: Bank, listing: Listing) -> None:
    whole = expected_of(database, busy.ada)
    for offset, limit in product([0, 1, 5, len(whole) - 1, len(whole), len(whole) + 1], [1, 3, 1000]):
        page = await listing.page(busy.ada, offset=offset, limit=limit)
        assert [item.sequence for item in page.items] == whole[offset : offset + limit]


async def test_the_page_after_an_offset_continues_behind_it(database: Database, busy: Bank, listing: Listing) -> None:
    whole = expected_of(database, busy.ada)
    first = await listing.page(busy.ada, offset=3, limit=4)
    then = await listing.page(busy.ada, below=first.next, limit=4)
    assert [item.sequence for item in (*first.items, *then.items)] == whole[3:11]


async def test_a_cursor_is_stable_while_transfers_are_added(database: Database, busy: Bank, listing: Listing) -> None:
    whole = expected_of(database, busy.ada)
    first = await listing.page(busy.ada, limit=4)
    accepted(database, from_ada_to_bob(busy))
    then = await listing.page(busy.ada, below=first.next, limit=1000)
    assert [item.sequence for item in (*first.items, *then.items)] == whole


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_transfers_settled_between_two_pages_are_on_the_second(
    database: Database, busy: Bank, listing: Listing, size: int
) -> None:
    for _ in range(4):
        accepted(database, from_ada_to_bob(busy, 1))
    whole = expected_of(database, busy.ada)
    first = await listing.page(busy.ada, limit=size)
    settle_all(database)
    received = set(expected_of(database, busy.ada)) - set(whole)
    rest = [item.sequence for item in (await listing.page(busy.ada, below=first.next)).items]
    assert [sequence for sequence in rest if sequence not in received] == whole[size:]


async def test_the_last_page_has_no_next_cursor(database: Database, bank: Bank, listing: Listing) -> None:
    assert (await listing.page(bank.ada, limit=1)).next is None, "one deposit"
    accepted(database, from_ada_to_bob(bank))
    assert (await listing.page(bank.ada, limit=2)).next is None
    assert (await listing.page(bank.ada, limit=1)).next is not None


async def test_a_list_from_a_time_on_ends_at_the_first_older_transfer(
    database: Database, busy: Bank, listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = now_us() + 10_000_000
    sent = send_at(database, busy, monkeypatch, [start, start + 1])
    page = await listing.page(busy.ada, TransferFilter(created_from=to_datetime(start)))
    assert [item.sequence for item in page.items] == [item.sequence for item in reversed(sent)]
    assert page.next is None, "all further transfers are older"


# --- transactions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_an_accounts_transactions_are_its_legs_newest_first_in_pages_of_any_size(
    database: Database, busy: Bank, session: AsyncSession, size: int
) -> None:
    account = await accounts.get(session, user_id=busy.ada.id, account_id=busy.ada_account)
    legs = rows(database, "SELECT * FROM transactions WHERE account_id = ? ORDER BY id DESC", account.id)
    seen = []
    start = None
    while True:
        page = await accounts.list_transactions(session, account=account, start=start, offset=0, limit=size)
        seen += page
        if not page or (start := page[-1].previous_id) is None:
            break
    assert [(leg.id, leg.amount, leg.balance_after) for leg in seen] == [
        (leg["id"], leg["amount"], leg["balance_after"]) for leg in legs
    ]
    assert {leg.account_id for leg in seen} == {busy.ada_account}
    assert busy.bob_account in {leg.related_account_id for leg in seen}
    skipped = await accounts.list_transactions(session, account=account, start=None, offset=size, limit=5)
    assert [leg.id for leg in skipped] == [leg["id"] for leg in legs][size : size + 5]


async def test_a_start_in_another_account_reads_nothing(busy: Bank, session: AsyncSession) -> None:
    hers = await accounts.get(session, user_id=busy.ada.id, account_id=busy.ada_account)
    his = await accounts.get(session, user_id=busy.bob.id, account_id=busy.bob_account)
    start = his.last_transaction_id
    assert await accounts.list_transactions(session, account=hers, start=start, offset=0, limit=5) == []


async def test_an_account_without_transactions_lists_none(database: Database, session: AsyncSession) -> None:
    bank = bank_of_two(database)
    account = await accounts.get(session, user_id=bank.ada.id, account_id=bank.ada_account)
    assert await accounts.list_transactions(session, account=account, start=None, offset=0, limit=5) == []
