"""Large documents of statements: requested by their owners, made by a job, and kept for some hours.

A document has the statement as it was when it was asked for. All functions can be called repeatedly and concurrently.
"""

from datetime import timedelta
from functools import partial
from io import BufferedReader
from pathlib import Path
from uuid import UUID

import anyio
from anyio import to_process
from pydantic import TypeAdapter
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core import documents as formats
from core.clock import now_us, to_datetime
from core.domain.documents import DocumentError, DocumentView
from core.domain.errors import Refusal, Unavailable
from core.failpoints import hit
from core.files import folder_of_documents
from core.ids import new_id
from core.services import clocks
from core.services.statements import reading
from core.services.statements.reading import Month
from core.settings import Settings
from core.storage import documents
from core.storage.documents import NewDocument
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work

_MONTHS: TypeAdapter[Month] = TypeAdapter(Month)


# --- asking ------------------------------------------------------------------------------------------------------


def wanted(settings: Settings, *, user_id: int, month: Month, media_type: str) -> NewDocument:
    """Describe the document of one of a user's statements, which has transactions, as it is now."""
    statement, now = month.statement, to_datetime(now_us())
    assert month.newest is not None, "a large statement has transactions"
    return NewDocument(
        id=new_id(),
        owner_id=user_id,
        account_id=month.account_id,
        period=str(statement.period),
        number=statement.number,
        newest_id=month.newest,
        media_type=media_type,
        transaction_count=statement.transaction_count,
        file_name=formats.file_name(statement, media_type),
        month=_MONTHS.dump_json(month).decode(),
        asked_at=now,
        expires_at=now + timedelta(hours=settings.document_hours),
    )


async def find_same(session: AsyncSession, settings: Settings, new: NewDocument) -> UUID | None:
    """Find the same document, pending or made. Raises Refusal (`too_many_documents`) if there is no place for one."""
    connection = await session.connection()
    return await connection.run_sync(partial(_same_or_place, settings=settings, new=new))


def ask(connection: Connection, settings: Settings, new: NewDocument) -> UUID:
    """Request a document and return its id, or that of the same one. Raises Refusal as `find_same` does."""
    same = _same_or_place(connection, settings=settings, new=new)
    if same is None:
        documents.add(connection, new)
    return same or new.id


def _same_or_place(connection: Connection, *, settings: Settings, new: NewDocument) -> UUID | None:
    for same, is_made in documents.find_same(connection, new):
        if not is_made or folder_of_documents.exists(settings.documents_path, same):
            return same
    if documents.count_pending_of(connection, new.owner_id, new.asked_at) >= settings.documents_pending:
        raise Refusal(DocumentError.TOO_MANY)
    return None


# --- reading -----------------------------------------------------------------------------------------------------


async def get(session: AsyncSession, *, user_id: int, document_id: UUID) -> DocumentView:
    """Read one of a user's documents; raises Refusal (`document_not_found`) for any other, and for an expired one."""
    found = await documents.get_owned(session, user_id, document_id, to_datetime(now_us()))
    if found is None:
        raise Refusal(DocumentError.NOT_FOUND)
    return found


def open_file(folder: Path, document_id: UUID) -> BufferedReader:
    """Open the file of a document that was made.

    Raises Refusal (`document_not_found`) if it is gone: it has expired just now, or a backup without it was restored.
    """
    try:
        return folder_of_documents.open_to_read(folder, document_id)
    except FileNotFoundError:
        raise Refusal(DocumentError.NOT_FOUND) from None


# --- making and forgetting ---------------------------------------------------------------------------------------


def make(database: Engine, settings: Settings, document_id: int) -> int:
    """Make a pending document by its row id, and return its size in bytes; 0 if there is nothing to make.

    It is drawn in a separate process, which ends with it and gives its memory back. Raises Unavailable if the file
    cannot be written, and BrokenWorkerProcess if that process was killed.
    """
    with database.reading() as connection:
        asked = documents.find_pending(connection, document_id, to_datetime(now_us()))
    if asked is None:
        return 0
    month = _MONTHS.validate_json(asked.month)
    content: bytes = anyio.run(to_process.run_sync, reading.draw, settings, month, asked.media_type)
    folder = settings.documents_path
    try:
        folder_of_documents.write(folder, asked.public_id, content)
    except OSError as error:
        raise Unavailable(f"The document cannot be written: {error.strerror}.") from error
    hit("documents.before_commit")
    now = to_datetime(now_us())
    with unit_of_work(database) as connection:
        is_wanted = documents.finish(
            connection, document_id, made_at=now, expires_at=now + timedelta(hours=settings.document_hours)
        )
        surplus = documents.forget_surplus(connection, document_id, keep=settings.documents_kept)
    for gone in surplus:
        folder_of_documents.delete(folder, gone)
    if not is_wanted:
        sweep(database, folder)  # its owner was erased meanwhile
    return len(content)


def forget_expired(database: Engine, settings: Settings) -> int:
    """Delete the documents that have expired, and every file that belongs to no document. Return how many expired.

    While the clock is in doubt, no document expires.
    """
    with unit_of_work(database) as connection:
        held = clocks.holds(connection, "the deletion of expired documents")
        count = 0 if held else documents.forget_expired(connection, to_datetime(now_us()))
    sweep(database, settings.documents_path)
    return count


def sweep(database: Engine, folder: Path) -> None:
    """Delete the files of documents that are no longer in the database."""
    present = folder_of_documents.present(folder)  # read first: a document is in the database before it has a file
    with database.reading() as connection:
        known = documents.all_ids(connection)
    for gone in present - known:
        folder_of_documents.delete(folder, gone)


def forget_all_of(connection: Connection, folder: Path, user_id: int) -> int:
    """Delete all documents of a user with their files, and return how many. Raises OSError.

    Files cannot be rolled back: if the commit fails now, the documents have to be asked for again.
    """
    gone = documents.forget_all_of(connection, user_id)
    for document_id in gone:
        folder_of_documents.delete(folder, document_id)
    return len(gone)
