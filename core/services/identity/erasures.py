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
from core.services.statements.documents import forget_all_of as forget_documents
from core.storage import accounts, cards, tokens, users


def erase(connection: Connection, author: Author, listed: Path, user_id: UUID, *, documents: Path) -> None:
    """Erase the personal data of a deactivated user permanently. Erasing an erased user changes nothing.

    Address, name, password, tokens, card numbers and large documents are deleted, and the user's accounts, which must
    be empty, are closed. The ledger, its statements and the audit log stay as they are
    (docs/how-to/personal-data.md). `listed` is the file of erased users, who must be erased again after an older backup
    is restored, and `documents` the folder of large documents.

    Raises Refusal: `user_not_found`, `user_active` if the user still has access, and the refusals of closing an
    account: `account_frozen`, `account_has_pending`, `account_not_empty`. Raises Unavailable if the list cannot be
    written, or a document cannot be deleted.
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
    # This comes last, because files cannot be rolled back. If the commit fails now, the list names a user whose
    # erasure was requested anyway.
    try:
        forget_documents(connection, documents, user.id)
    except OSError as error:
        raise Unavailable("A document of the user cannot be deleted. Nothing was recorded.") from error
    try:
        erasures.append(listed, user_id)
    except OSError as error:
        raise Unavailable("The list of erased users cannot be written. Nothing was recorded.") from error


def erase_again(
    connection: Connection, author: Author, listed: Path, user_id: UUID, *, excluded: Path, documents: Path
) -> bool:
    """Erase a user again whom an older backup has brought back. Returns False if the user is missing or still erased.

    `excluded` is the file of excluded users. Raises Refusal as closing an account does.
    """
    user = users.find(connection, user_id)
    if user is None or user.erased_at is not None:
        return False
    deactivate(connection, author, excluded, user_id)
    erase(connection, author, listed, user_id, documents=documents)
    return True


def listed_in(file: Path) -> Iterator[UUID]:
    """Read the distinct users in a file. A missing file has no users. Raises ValueError for an invalid id."""
    return iter(dict.fromkeys(erasures.read(file)))


def came_back(connection: Connection, file: Path) -> int:
    """Count the users in a file that are not erased now. Raises ValueError as `listed_in` does."""
    found = (users.find(connection, user_id) for user_id in listed_in(file))
    return sum(user is not None and user.erased_at is None for user in found)


def _close_accounts(connection: Connection, owner_id: int) -> int:
    """Close a user's open accounts and count them. A refusal names the account."""
    still_open = accounts.open_ids_of(connection, owner_id)
    for account_id in still_open:
        try:
            close_account(connection, user_id=owner_id, account_id=account_id)
        except Refusal as refusal:
            raise Refusal(refusal.code, detail=f"Account {account_id}: {refusal.detail}") from None
    return len(still_open)
