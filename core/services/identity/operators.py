"""Acts and views of operators. Every act is recorded with its author, in the unit of work that does it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us
from core.domain.accounts import TRANSITIONS, AccountError, AccountStatus, AccountView, AccountWithOwner, FreezeScope
from core.domain.audit import Action, Author
from core.domain.errors import Part, Refusal, Unavailable
from core.domain.transfers import TransferError, TransferStatus, TransferView
from core.domain.users import Role, UserError, UserView
from core.files import exclusions
from core.services.audit import write_down
from core.services.identity.emails import looked_up
from core.services.identity.users import sign_up
from core.storage import accounts, dead_letters, isolations, transfer_lists, transfers, users

DEFAULT = "default"
"""In the audit log: the number in the settings, and not one for a single user."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """The state of the settlement queue."""

    pending: int
    oldest_age_seconds: float | None
    last_settled_sequence: int
    """Every transfer up to this one has ended; 0 before the first."""
    parked: int
    """Messages that wait for an operator because their work kept failing."""


# --- acts --------------------------------------------------------------------------------------------------------


def create(connection: Connection, author: Author, *, email: str, password_hash: str) -> UUID:
    """Create an operator and return the public id; raises Refusal (`email_taken`)."""
    user_id = sign_up(connection, email=email, name=None, password_hash=password_hash, role=Role.OPERATOR)
    write_down(connection, author, Action.OPERATOR_CREATED, user_id)
    return user_id


def freeze(connection: Connection, author: Author, account_id: UUID, scope: FreezeScope) -> None:
    """Freeze an account, or change the scope of a frozen one; the same scope again changes nothing.

    Raises Refusal: `account_not_found`, `account_closed`.
    """
    account = _customers(connection, account_id)
    if account.freeze_scope is scope:
        return
    accounts.set_status(connection, account.id, AccountStatus.FROZEN, scope)
    write_down(connection, author, Action.ACCOUNT_FROZEN, account_id, scope=scope.value)


def unfreeze(connection: Connection, author: Author, account_id: UUID) -> None:
    """Make a frozen account active again; an active account stays active. Raises Refusal as `freeze` does."""
    account = _customers(connection, account_id)
    if account.status is AccountStatus.ACTIVE:
        return
    accounts.set_status(connection, account.id, AccountStatus.ACTIVE, None)
    write_down(connection, author, Action.ACCOUNT_UNFROZEN, account_id)


def set_overdraft_limit(connection: Connection, author: Author, account_id: UUID, amount: int) -> None:
    """Set how far below 0 an account's balance may go, in minor units. The audit log records every limit.

    Raises Refusal: `limit_in_use` if the balance is already below the new limit, and as `freeze` does.
    """
    account = _customers(connection, account_id)
    if account.overdraft_limit == amount:
        return
    if account.balance < -amount:
        raise Refusal(AccountError.LIMIT_IN_USE, about=Part.AMOUNT)
    accounts.set_overdraft_limit(connection, account.id, amount)
    write_down(
        connection,
        author,
        Action.OVERDRAFT_LIMIT_SET,
        account_id,
        before=account.overdraft_limit,
        after=amount,
        # The leg after which the new limit applies: times could not tell two acts of the same moment apart.
        last_transaction=account.last_transaction_id or 0,
    )


def deactivate(connection: Connection, author: Author, listed: Path, user_id: UUID) -> None:
    """Revoke a user's access immediately; pending transfers from the user's accounts fail.

    `listed` is the file of excluded users, who stay out when an older backup is restored. Raises Refusal:
    `user_not_found`, `last_operator` if nobody could run the bank afterwards. Raises Unavailable if the file cannot be
    written.
    """
    user = _found(connection, user_id)
    # Read in the unit of work that writes: of two operators who deactivate each other at once, the second is refused.
    if user.is_active and user.role is Role.OPERATOR and not users.other_operator_is_active(connection, user.id):
        raise Refusal(UserError.LAST_OPERATOR, about=Part.USER)
    if _set_active(connection, author, user_id, active=False) == user.token_version:
        return
    # Before the commit: if that fails, the list keeps out a user whose exclusion was ordered. In the other order, a
    # crash in between would leave a user out who comes back with a backup.
    try:
        exclusions.append(listed, user_id, exclusions.OUT)
    except OSError as error:
        raise Unavailable("The list of excluded users cannot be written. Nothing was recorded.") from error


def reactivate(connection: Connection, author: Author, user_id: UUID) -> int:
    """Restore a user's access, and return the user's token version. The user has to log in again.

    Once this is committed, `admit` takes the user off the list of excluded users. Raises Refusal: `user_not_found`,
    `user_erased`.
    """
    return _set_active(connection, author, user_id, active=True)


def admit(connection: Connection, listed: Path, user_id: UUID, token_version: int) -> None:
    """Take a user off the list of excluded users whose reactivation to this token version is committed.

    It needs its own unit of work: if the machine stops before it, a restore keeps the user out, and an operator can
    correct that. If the user was deactivated in between, the version is another one, and the user stays on the list.
    Raises Unavailable if the list cannot be written.
    """
    user = users.find(connection, user_id)
    if user is None or not user.is_active or user.token_version != token_version:
        return
    try:
        if user_id in exclusions.read(listed).users:
            exclusions.append(listed, user_id, exclusions.IN)
    except OSError as error:
        raise Unavailable("The user has access, but the list of excluded users cannot be written.") from error


def set_pending_limit(connection: Connection, author: Author, user_id: UUID, limit: int | None) -> None:
    """Set how many pending transfers a user's accounts may have together; None: the number in the settings.

    Transfers that are pending already stay. Raises Refusal: `user_not_found`, `user_erased`.
    """
    user = _found(connection, user_id)
    if user.pending_limit == limit:
        return
    if user.erased_at is not None:
        raise Refusal(UserError.ERASED)
    users.set_pending_limit(connection, user.id, limit)
    before, after = (DEFAULT if each is None else each for each in (user.pending_limit, limit))
    write_down(connection, author, Action.PENDING_LIMIT_SET, user_id, before=before, after=after)


def _set_active(connection: Connection, author: Author, user_id: UUID, *, active: bool) -> int:
    """Set whether a user has access, and return the user's token version, which every change raises."""
    user = _found(connection, user_id)
    if user.is_active is active:
        return user.token_version
    if user.erased_at is not None:
        raise Refusal(UserError.ERASED)
    users.set_active(connection, user.id, active=active)
    write_down(connection, author, Action.USER_REACTIVATED if active else Action.USER_DEACTIVATED, user_id)
    return user.token_version + 1


def _found(connection: Connection, user_id: UUID) -> UserView:
    user = users.find(connection, user_id)
    if user is None:
        raise Refusal(UserError.NOT_FOUND, about=Part.USER)
    return user


def _customers(connection: Connection, account_id: UUID) -> AccountView:
    """Read an account that operators may change: a customer's account that is not closed."""
    account = accounts.read(connection, account_id)
    if account is None or account.owner_id is None:
        raise Refusal(AccountError.NOT_FOUND, about=Part.ACCOUNT)
    if not TRANSITIONS[account.status]:
        raise Refusal(AccountError.CLOSED)
    if account.id in isolations.accounts(connection):
        raise Refusal(AccountError.FROZEN, detail="The account is isolated, because the ledger is broken there.")
    return account


def account_by_name(connection: Connection, name: UUID | str) -> UUID:
    """Find an account by its id or its number; raises Refusal (`account_not_found`) for an unknown number."""
    found = name if isinstance(name, UUID) else accounts.find_by_number(connection, name)
    if found is None:
        raise Refusal(AccountError.NOT_FOUND)
    return found


def user_by_name(connection: Connection, name: UUID | str) -> UUID:
    """Find a user by id or by e-mail address; raises Refusal (`user_not_found`) for an unknown address."""
    return name if isinstance(name, UUID) else user_by_email(connection, name)


def user_by_email(connection: Connection, email: str) -> UUID:
    """Find a user by e-mail address, in any spelling; raises Refusal (`user_not_found`)."""
    found = users.find_by_email(connection, looked_up(email))
    if found is None:
        raise Refusal(UserError.NOT_FOUND)
    return found


def active_user_by_email(connection: Connection, email: str) -> int:
    """Find the row id of an active user by e-mail address; raises Refusal (`user_not_found`) for all others."""
    user = users.find(connection, user_by_email(connection, email))
    if user is None or not user.is_active:
        raise Refusal(UserError.NOT_FOUND)
    return user.id


# --- views -------------------------------------------------------------------------------------------------------


async def list_users(session: AsyncSession, *, after_id: int, offset: int, limit: int) -> Sequence[UserView]:
    """List users, oldest first, starting after row id `after_id`. The bank's own user is left out."""
    return await users.list_all(session, after_id=after_id, offset=offset, limit=limit)


async def get_user(session: AsyncSession, user_id: UUID) -> UserView:
    """Read any user; raises Refusal (`user_not_found`)."""
    user = await users.get_by_public_id(session, user_id)
    if user is None:
        raise Refusal(UserError.NOT_FOUND, about=Part.USER)
    return user


async def list_accounts(session: AsyncSession, *, after_id: int, offset: int, limit: int) -> Sequence[AccountWithOwner]:
    """List accounts, including external ones, with their owners' public ids (external: None), oldest first."""
    return await accounts.list_all(session, after_id=after_id, offset=offset, limit=limit)


async def get_account(session: AsyncSession, account_id: UUID) -> AccountWithOwner:
    """Read any account and its owner's public id; raises Refusal (`account_not_found`)."""
    found = await accounts.get(session, account_id)
    if found is None:
        raise Refusal(AccountError.NOT_FOUND, about=Part.ACCOUNT)
    return found


async def list_transfers(
    session: AsyncSession, *, status: TransferStatus | None, below: int, offset: int, limit: int
) -> tuple[list[TransferView], int | None]:
    """List transfers below sequence `below`, newest first, and return below which sequence the next page begins.

    A page is full unless the list ends with it; then there is no next page.
    """
    found = await transfer_lists.list_all(session, status=status, below=below, offset=offset, limit=limit + 1)
    return found[:limit], found[limit - 1].sequence if len(found) > limit else None


async def get_transfer(session: AsyncSession, transfer_id: UUID) -> TransferView:
    """Read any transfer; raises Refusal (`transfer_not_found`)."""
    transfer = await transfers.get(session, transfer_id)
    if transfer is None:
        raise Refusal(TransferError.NOT_FOUND)
    return transfer


async def queue_state(session: AsyncSession) -> QueueState:
    """Read the state of the settlement queue."""
    connection = await session.connection()
    backlog = await connection.run_sync(transfers.backlog)
    age = None if backlog.oldest_created_at is None else max(0.0, (now_us() - backlog.oldest_created_at) / 1e6)
    parked = await connection.run_sync(dead_letters.count_parked)
    return QueueState(backlog.pending, age, backlog.last_settled, parked)
