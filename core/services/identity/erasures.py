"""Erasing a person: the data that names them is deleted, the data that the ledger needs stays."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection

from core.clock import now_us, to_datetime
from core.domain.audit import Action, Author
from core.domain.errors import Part, Refusal, Unavailable
from core.domain.users import UserError, erased_email
from core.files import erasures
from core.services.accounts import close_account
from core.services.audit import write_down
from core.services.identity.operators import deactivate
from core.storage import accounts, cards, tokens, users


def erase(connection: Connection, author: Author, listed: Path, user_id: UUID) -> None:
    """Erase what names a deactivated user, for good; erasing an erased one changes nothing.

    Address, name and password go, as do tokens and the numbers of cards; accounts with nothing on them are closed.
    What the ledger, its statements and the audit log hold stays (docs/how-to/personal-data.md). `listed` is the file
    that tells whom to erase again in a backup of before.

    Raises Refusal: `user_not_found`, `user_active` for one who has access, and what closing an account raises:
    `account_frozen`, `account_has_pending`, `account_not_empty`. Raises Unavailable where the list cannot be written.
    """
    user = users.find(connection, user_id)
    if user is None:
        raise Refusal(UserError.NOT_FOUND, about=Part.USER)
    if user.erased_at is not None:
        return
    if user.is_active:
        raise Refusal(UserError.ACTIVE)
    closed = _close_accounts(connection, user.id)
    shredded = cards.shred_all_of(connection, user.id)
    tokens.forget_all_of(connection, user.id)
    users.erase(connection, user.id, email=erased_email(user_id), erased_at=to_datetime(now_us()))
    write_down(connection, author, Action.USER_ERASED, user_id, accounts_closed=closed, cards=shredded)
    # Last, as a file cannot be rolled back. Should the commit fail now, the list asks for what somebody did ask for.
    try:
        erasures.append(listed, user_id)
    except OSError as error:
        raise Unavailable("The list of who was erased cannot be written; nothing was recorded.") from error


def erase_again(connection: Connection, author: Author, listed: Path, user_id: UUID) -> bool:
    """Erase somebody whom an older backup has brought back, with access or without, and say whether it had.

    Raises Refusal as closing an account does.
    """
    user = users.find(connection, user_id)
    if user is None or user.erased_at is not None:
        return False
    deactivate(connection, author, user_id)
    erase(connection, author, listed, user_id)
    return True


def listed_in(file: Path) -> Iterator[UUID]:
    """Read whom a file lists, each once; none where there is no file. Raises ValueError for a line that is no id."""
    return iter(dict.fromkeys(erasures.read(file)))


def came_back(connection: Connection, file: Path) -> int:
    """Count those whom a file lists and who are there again, not erased. Raises ValueError as `listed_in` does."""
    found = (users.find(connection, user_id) for user_id in listed_in(file))
    return sum(user is not None and user.erased_at is None for user in found)


def _close_accounts(connection: Connection, owner_id: int) -> int:
    """Close what a user still has open, and count it; a refusal names the account."""
    still_open = accounts.open_ids_of(connection, owner_id)
    for account_id in still_open:
        try:
            close_account(connection, user_id=owner_id, account_id=account_id)
        except Refusal as refusal:
            raise Refusal(refusal.code, detail=f"Account {account_id}: {refusal.detail}") from None
    return len(still_open)
