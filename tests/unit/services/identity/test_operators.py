"""Acts and lists of operators: each act has its effect and is recorded once, or has no effect at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_us
from core.domain.accounts import AccountError, FreezeScope
from core.domain.audit import AuditFilter, Author
from core.domain.errors import ErrorCode, Part, Refusal
from core.domain.transfers import AcceptedTransfer, TransferError, TransferStatus
from core.domain.users import Role, UserError
from core.ids import NEWEST
from core.services.audit import list_audit
from core.services.identity import operators
from core.services.transfers import cancelling
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    WHOLE_TRANSFERS,
    Bank,
    Person,
    accept,
    accepted,
    account_row,
    add_user,
    balance_of,
    bank_of_two,
    close,
    deposit_request,
    external_account,
    from_ada_to_bob,
    from_bob_to_ada,
    look_up,
    reserved_of,
    rows,
    settle_all,
    status_of,
    user_row,
)

DEBIT, ALL = FreezeScope
Act = Callable[[Connection, Author, UUID], object]
LISTED = Path("exclusions")
"""The list of excluded users, in the test's own folder."""


@pytest.fixture
def operator(database: Database) -> Person:
    with unit_of_work(database) as connection:
        return add_user(connection, role=Role.OPERATOR)


@pytest.fixture
def author(operator: Person) -> Author:
    return Author(user_id=operator.id, request_id="an-act", address="192.0.2.7")


def deactivate(connection: Connection, author: Author, user_id: UUID) -> None:
    operators.deactivate(connection, author, LISTED, user_id)


def freezing(scope: FreezeScope) -> Act:
    return lambda connection, author, account: operators.freeze(connection, author, account, scope)


def limiting(amount: int) -> Act:
    return lambda connection, author, account: operators.set_overdraft_limit(connection, author, account, amount)


def do(database: Database, author: Author, act: Act, target: UUID) -> None:
    with unit_of_work(database) as connection:
        act(connection, author, target)


def refusal(database: Database, author: Author, act: Act, target: UUID) -> tuple[ErrorCode, Part | None]:
    """Try an act that must be rejected: nothing is recorded."""
    before = log(database)
    with pytest.raises(Refusal) as caught:
        do(database, author, act, target)
    assert log(database) == before
    return caught.value.code, caught.value.about


def log(database: Database) -> list[tuple[str, dict[str, Any]]]:
    """The recorded acts with their details, without the deposits at the beginning of the tests."""
    found = rows(database, "SELECT action, details FROM audit_entries WHERE action <> 'deposit_ordered' ORDER BY id")
    return [(row["action"], json.loads(row["details"])) for row in found]


def state(database: Database, account: UUID) -> tuple[str, str | None]:
    row = account_row(database, account)
    return row["status"], row["freeze_scope"]


def failure(database: Database, transfer: AcceptedTransfer) -> tuple[TransferStatus, ErrorCode | None]:
    view = look_up(database, transfer)
    return view.status, view.failure_code


def answer(outcome: AcceptedTransfer | Refusal) -> str:
    return str(outcome.code) if isinstance(outcome, Refusal) else "accepted"


# --- freezing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", FreezeScope)
def test_an_account_is_frozen_in_a_scope(database: Database, bank: Bank, author: Author, scope: FreezeScope) -> None:
    do(database, author, freezing(scope), bank.ada_account)
    assert state(database, bank.ada_account) == ("frozen", scope.value)
    assert state(database, bank.bob_account) == ("active", None)
    assert log(database) == [("account_frozen", {"scope": scope.value})]


@pytest.mark.parametrize(("first", "second"), [(DEBIT, ALL), (ALL, DEBIT)])
def test_the_scope_of_a_frozen_account_changes(
    database: Database, bank: Bank, author: Author, first: FreezeScope, second: FreezeScope
) -> None:
    for scope in (first, second):
        do(database, author, freezing(scope), bank.ada_account)
    assert state(database, bank.ada_account) == ("frozen", second.value)
    assert log(database) == [("account_frozen", {"scope": scope.value}) for scope in (first, second)]


@pytest.mark.parametrize("scope", FreezeScope)
def test_the_same_scope_again_changes_nothing(
    database: Database, bank: Bank, author: Author, scope: FreezeScope
) -> None:
    do(database, author, freezing(scope), bank.ada_account)
    before = account_row(database, bank.ada_account)
    do(database, author, freezing(scope), bank.ada_account)
    assert account_row(database, bank.ada_account) == before
    assert len(log(database)) == 1


def test_a_frozen_account_becomes_active_again(database: Database, bank: Bank, author: Author) -> None:
    before = account_row(database, bank.ada_account)
    do(database, author, freezing(DEBIT), bank.ada_account)
    do(database, author, operators.unfreeze, bank.ada_account)
    assert account_row(database, bank.ada_account) == before
    assert log(database) == [("account_frozen", {"scope": "debit"}), ("account_unfrozen", {})]


def test_unfreezing_an_active_account_changes_nothing(database: Database, bank: Bank, author: Author) -> None:
    before = account_row(database, bank.ada_account)
    do(database, author, operators.unfreeze, bank.ada_account)
    assert account_row(database, bank.ada_account) == before
    assert log(database) == []


@pytest.mark.parametrize("scope", FreezeScope)
def test_a_transfer_accepted_before_its_payer_was_frozen_fails(
    database: Database, bank: Bank, author: Author, scope: FreezeScope
) -> None:
    transfer = accepted(database, from_ada_to_bob(bank, 100))
    do(database, author, freezing(scope), bank.ada_account)
    settle_all(database)
    assert failure(database, transfer) == (TransferStatus.FAILED, AccountError.FROZEN)
    assert (balance_of(database, bank.ada_account), reserved_of(database, bank.ada_account)) == (1000, 0)


@pytest.mark.parametrize(("scope", "status"), [(DEBIT, TransferStatus.COMPLETED), (ALL, TransferStatus.FAILED)])
def test_a_transfer_to_an_account_frozen_for_debits_still_arrives(
    database: Database, bank: Bank, author: Author, scope: FreezeScope, status: TransferStatus
) -> None:
    transfer = accepted(database, from_ada_to_bob(bank, 100))
    do(database, author, freezing(scope), bank.bob_account)
    settle_all(database)
    assert status_of(database, transfer) is status


def test_an_unfrozen_account_pays_and_receives_again(database: Database, bank: Bank, author: Author) -> None:
    do(database, author, freezing(ALL), bank.ada_account)
    both = (from_ada_to_bob(bank, 100), deposit_request(bank.ada_account, 100))
    assert [answer(outcome) for outcome in accept(database, *both)] == ["account_frozen"] * 2
    do(database, author, operators.unfreeze, bank.ada_account)
    assert [answer(outcome) for outcome in accept(database, *both)] == ["accepted"] * 2
    settle_all(database)
    assert (balance_of(database, bank.ada_account), balance_of(database, bank.bob_account)) == (1000, 100)


ACCOUNT_ACTS = pytest.mark.parametrize(
    "act", [freezing(DEBIT), freezing(ALL), operators.unfreeze, limiting(0), limiting(5)]
)


@ACCOUNT_ACTS
def test_a_closed_account_does_not_change(database: Database, bank: Bank, author: Author, act: Act) -> None:
    close(database, bank.bob_account)
    before = account_row(database, bank.bob_account)
    assert refusal(database, author, act, bank.bob_account) == (AccountError.CLOSED, None)
    assert account_row(database, bank.bob_account) == before


@ACCOUNT_ACTS
def test_an_external_account_and_a_missing_one_are_rejected_alike(
    database: Database, bank: Bank, author: Author, act: Act
) -> None:
    before = external_account(database)
    for account in (UUID(bytes=before["public_id"]), uuid4(), bank.ada.public_id):
        assert refusal(database, author, act, account) == (AccountError.NOT_FOUND, Part.ACCOUNT)
    assert external_account(database) == before


# --- limits ------------------------------------------------------------------------------------------------------


def owing(database: Database, bank: Bank, author: Author) -> None:
    """Bob has no money and a limit of 500: bring his balance to -300."""
    do(database, author, limiting(500), bank.bob_account)
    accepted(database, from_bob_to_ada(bank, 300))
    settle_all(database)
    assert balance_of(database, bank.bob_account) == -300


@pytest.mark.parametrize("limit", [501, 9 * 10**15, 499, 301, 300])
def test_a_limit_can_be_raised_and_lowered_down_to_the_debt(
    database: Database, bank: Bank, author: Author, limit: int
) -> None:
    owing(database, bank, author)
    do(database, author, limiting(limit), bank.bob_account)
    assert account_row(database, bank.bob_account)["overdraft_limit"] == limit
    assert log(database)[-1][1] == {"before": 500, "after": limit, "last_transaction": 3}
    assert len(log(database)) == 2


@pytest.mark.parametrize("limit", [299, 1, 0])
def test_a_limit_below_the_debt_is_rejected(database: Database, bank: Bank, author: Author, limit: int) -> None:
    owing(database, bank, author)
    before = account_row(database, bank.bob_account)
    assert refusal(database, author, limiting(limit), bank.bob_account) == (AccountError.LIMIT_IN_USE, Part.AMOUNT)
    assert account_row(database, bank.bob_account) == before


@pytest.mark.parametrize(("account", "limit"), [("ada_account", 0), ("bob_account", 500)])
def test_the_same_limit_again_changes_nothing(
    database: Database, bank: Bank, author: Author, account: str, limit: int
) -> None:
    owing(database, bank, author)
    before = account_row(database, getattr(bank, account)), log(database)
    do(database, author, limiting(limit), getattr(bank, account))
    assert (account_row(database, getattr(bank, account)), log(database)) == before


def test_the_next_transfer_respects_the_new_limit(database: Database, bank: Bank, author: Author) -> None:
    def attempt(amount: int) -> str:
        return answer(accept(database, from_ada_to_bob(bank, amount))[0])

    assert attempt(1001) == "insufficient_funds"
    do(database, author, limiting(500), bank.ada_account)
    assert [attempt(1501), attempt(1400)] == ["insufficient_funds", "accepted"]
    settle_all(database)
    assert balance_of(database, bank.ada_account) == -400
    do(database, author, limiting(450), bank.ada_account)
    assert [attempt(51), attempt(50)] == ["insufficient_funds", "accepted"]


def test_a_pending_transfer_beyond_a_lowered_limit_fails(database: Database, bank: Bank, author: Author) -> None:
    do(database, author, limiting(500), bank.bob_account)
    transfer = accepted(database, from_bob_to_ada(bank, 300))
    do(database, author, limiting(299), bank.bob_account)
    settle_all(database)
    assert failure(database, transfer) == (TransferStatus.FAILED, TransferError.INSUFFICIENT_FUNDS)
    assert (balance_of(database, bank.bob_account), reserved_of(database, bank.bob_account)) == (0, 0)


def test_setting_the_limit_of_a_frozen_account_does_not_unfreeze_it(
    database: Database, bank: Bank, author: Author
) -> None:
    do(database, author, freezing(DEBIT), bank.ada_account)
    do(database, author, limiting(5), bank.ada_account)
    assert state(database, bank.ada_account) == ("frozen", "debit")
    assert account_row(database, bank.ada_account)["overdraft_limit"] == 5


# --- people ------------------------------------------------------------------------------------------------------


def test_a_user_loses_access_and_every_token(database: Database, bank: Bank, author: Author) -> None:
    ada, bob = user_row(database, bank.ada), user_row(database, bank.bob)
    do(database, author, deactivate, bank.ada.public_id)
    assert user_row(database, bank.ada) == ada | {"is_active": 0, "token_version": ada["token_version"] + 1}
    assert user_row(database, bank.bob) == bob
    assert log(database) == [("user_deactivated", {})]


def test_a_reactivated_user_has_access_but_no_old_token(database: Database, bank: Bank, author: Author) -> None:
    before = user_row(database, bank.ada)
    for act in (deactivate, operators.reactivate):
        do(database, author, act, bank.ada.public_id)
    after = user_row(database, bank.ada)
    assert after["is_active"] == 1
    assert after["token_version"] > before["token_version"]
    assert log(database) == [("user_deactivated", {}), ("user_reactivated", {})]


def test_a_repeated_act_changes_nothing(database: Database, bank: Bank, author: Author) -> None:
    before = user_row(database, bank.ada)
    do(database, author, operators.reactivate, bank.ada.public_id)
    assert (user_row(database, bank.ada), log(database)) == (before, [])
    do(database, author, deactivate, bank.ada.public_id)
    before = user_row(database, bank.ada)
    do(database, author, deactivate, bank.ada.public_id)
    assert (user_row(database, bank.ada), len(log(database))) == (before, 1)


def test_pending_transfers_of_a_deactivated_owner_fail(database: Database, bank: Bank, author: Author) -> None:
    outgoing = accepted(database, from_ada_to_bob(bank, 100))
    incoming = accepted(database, deposit_request(bank.ada_account, 7))
    do(database, author, deactivate, bank.ada.public_id)
    settle_all(database)
    assert failure(database, outgoing) == (TransferStatus.FAILED, TransferError.OWNER_INACTIVE)
    assert failure(database, incoming) == (TransferStatus.COMPLETED, None)
    assert (balance_of(database, bank.ada_account), reserved_of(database, bank.ada_account)) == (1007, 0)
    do(database, author, operators.reactivate, bank.ada.public_id)
    again = accepted(database, from_ada_to_bob(bank, 100))
    settle_all(database)
    assert status_of(database, again) is TransferStatus.COMPLETED


@pytest.mark.parametrize("act", [deactivate, operators.reactivate])
def test_the_bank_itself_and_an_unknown_user_are_rejected_alike(
    database: Database, bank: Bank, author: Author, act: Act
) -> None:
    (system,) = rows(database, "SELECT * FROM users WHERE role = 'system'")
    for user in (UUID(bytes=system["public_id"]), uuid4(), bank.ada_account):
        assert refusal(database, author, act, user) == (UserError.NOT_FOUND, Part.USER)
    assert rows(database, "SELECT * FROM users WHERE role = 'system'") == [system]


# --- records of acts ---

ACTS: list[tuple[Act, str, dict[str, Any]]] = [
    (freezing(DEBIT), "account_frozen", {"scope": "debit"}),
    (freezing(ALL), "account_frozen", {"scope": "all"}),
    (operators.unfreeze, "account_unfrozen", {}),
    (limiting(70), "overdraft_limit_set", {"before": 0, "after": 70, "last_transaction": 2}),
    (limiting(20), "overdraft_limit_set", {"before": 70, "after": 20, "last_transaction": 2}),
    (deactivate, "user_deactivated", {}),
    (operators.reactivate, "user_reactivated", {}),
]


def target_of(bank: Bank, action: str) -> UUID:
    return bank.ada.public_id if action.startswith("user_") else bank.ada_account


async def test_every_act_is_recorded_once_with_its_author(
    database: Database, bank: Bank, operator: Person, session: AsyncSession
) -> None:
    began = now_us()
    for number, (act, action, _) in enumerate(ACTS):
        address = None if number == 0 else f"192.0.2.{number}"
        by = Author(user_id=operator.id, request_id=f"act-{number}", address=address)
        do(database, by, act, target_of(bank, action))
        assert len(log(database)) == number + 1
    ended = now_us()
    found, _ = await list_audit(session, AuditFilter(author_id=operator.public_id), below=NEWEST, offset=0, limit=100)
    assert all(began <= to_us(view.at) <= ended for view in found)
    assert [
        (view.sequence, view.author_id, view.action, view.object_id, view.details, view.request_id, view.address)
        for view in reversed(found)
    ] == [
        (
            number + 2,  # after the deposit
            operator.public_id,
            action,
            target_of(bank, action),
            details,
            f"act-{number}",
            None if number == 0 else f"192.0.2.{number}",
        )
        for number, (_, action, details) in enumerate(ACTS)
    ]


def test_an_act_that_was_rolled_back_is_not_recorded(database: Database, bank: Bank, author: Author) -> None:
    account, user = account_row(database, bank.ada_account), user_row(database, bank.ada)

    def all_of_them() -> None:
        with unit_of_work(database) as connection:
            for act, action, _ in ACTS:
                act(connection, author, target_of(bank, action))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        all_of_them()
    assert (account_row(database, bank.ada_account), user_row(database, bank.ada), log(database)) == (account, user, [])


@pytest.mark.parametrize(("act", "action"), [(act, action) for act, action, _ in ACTS if act != operators.unfreeze])
def test_an_act_that_cannot_be_recorded_has_no_effect(
    database: Database, bank: Bank, author: Author, act: Act, action: str
) -> None:
    if action == "user_reactivated":
        do(database, author, deactivate, bank.ada.public_id)
    if act is ACTS[4][0]:
        do(database, author, limiting(70), bank.ada_account)
    before = account_row(database, bank.ada_account), user_row(database, bank.ada), log(database)
    nobody = Author(user_id=999, request_id="an-act", address=None)
    with pytest.raises(Exception, match="FOREIGN KEY"):
        do(database, nobody, act, target_of(bank, action))
    assert (account_row(database, bank.ada_account), user_row(database, bank.ada), log(database)) == before


# --- lists of operators ---


def transfers_of_every_status(database: Database, bank: Bank, author: Author) -> None:
    """Make 1 deposit and 20 transfers: some completed, some failed, a row of cancelled ones, some pending."""
    for _ in range(6):
        accepted(database, from_ada_to_bob(bank, 1))
    settle_all(database)
    for _ in range(3):
        accepted(database, from_ada_to_bob(bank, 1))
    do(database, author, freezing(ALL), bank.bob_account)
    settle_all(database)
    do(database, author, operators.unfreeze, bank.bob_account)
    for _ in range(7):
        cancelled = accepted(database, from_ada_to_bob(bank, 1))
        with unit_of_work(database) as connection:
            cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=cancelled.id)
    for _ in range(4):
        accepted(database, from_ada_to_bob(bank, 1))


@pytest.mark.parametrize("status", [None, *TransferStatus])
async def test_pages_of_transfers_add_up_to_the_whole_list(
    database: Database,
    bank: Bank,
    author: Author,
    session: AsyncSession,
    status: TransferStatus | None,
) -> None:
    transfers_of_every_status(database, bank, author)
    where = "" if status is None else f"WHERE status = '{status}'"
    whole = [row["id"] for row in rows(database, f"SELECT id FROM {WHOLE_TRANSFERS} {where} ORDER BY id DESC")]
    assert len(whole) == {None: 21, "completed": 7, "failed": 3, "cancelled": 7, "pending": 4}[status]
    for limit in (1, 2, 5, 21):
        assert await every_page(session, status, limit) == whole, limit


async def every_page(session: AsyncSession, status: TransferStatus | None, limit: int) -> list[int]:
    seen: list[int] = []
    below: int | None = NEWEST
    while below is not None:
        start = below
        page, below = await operators.list_transfers(session, status=status, below=start, offset=0, limit=limit)
        assert len(page) == limit or below is None, "a page is full unless the list ends with it"
        assert all(status in (None, view.status) for view in page)
        seen += [view.sequence for view in page]
    return seen


async def test_a_list_of_transfers_begins_at_its_offset(
    database: Database, bank: Bank, author: Author, session: AsyncSession
) -> None:
    transfers_of_every_status(database, bank, author)
    page, below = await operators.list_transfers(session, status=None, below=NEWEST, offset=5, limit=3)
    assert ([view.sequence for view in page], below) == ([16, 15, 14], 14)


async def test_an_empty_list_of_transfers_has_no_next_page(session: AsyncSession) -> None:
    assert await operators.list_transfers(session, status=None, below=NEWEST, offset=0, limit=5) == ([], None)


async def test_the_queue_shows_waiting_transfers_their_age_and_the_ended_ones(database: Database) -> None:
    async def queue() -> operators.QueueState:
        async with AsyncSession(database.async_reader) as session:
            return await operators.queue_state(session)

    assert await queue() == operators.QueueState(0, None, 0, 0)
    bank = bank_of_two(database, ada_has=1000)
    assert await queue() == operators.QueueState(0, None, 1, 0)
    before = now_us()
    oldest, *_ = [accepted(database, from_ada_to_bob(bank, 1)) for _ in range(3)]
    found = await queue()
    assert (found.pending, found.last_settled_sequence) == (3, 1)
    assert found.oldest_age_seconds is not None
    assert 0 <= found.oldest_age_seconds <= (now_us() - before) / 1e6
    with unit_of_work(database) as connection:
        cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=oldest.id)
    found = await queue()
    assert (found.pending, found.last_settled_sequence) == (2, 2)
    settle_all(database)
    assert await queue() == operators.QueueState(0, None, 4, 0)
    await database.async_reader.dispose()
