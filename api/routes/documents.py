"""Large documents of statements: asked for at the statement, and fetched here when a job has made them."""

from collections.abc import Iterator
from io import BufferedReader
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession

from api.dependencies import DocumentTypeDep, RuntimeDep, SessionDep, UserDep
from api.http.checks import JSON_TYPE, CheckedRoute
from api.runtime import Runtime
from api.schemas.documents import DocumentOut
from api.schemas.fields import DOCUMENT, DocumentInPath
from api.schemas.problems import FOR_USERS, header, problems
from core import documents as formats
from core.domain.documents import DocumentError, DocumentStatus
from core.domain.users import Identity
from core.services.statements import documents
from core.services.statements.reading import Month

router = APIRouter(tags=["statements"], route_class=CheckedRoute)

CHUNK_BYTES = 1 << 16
RETRY_AFTER = "1"

_RETRY_AFTER = header("While the document is pending: seconds to wait before asking again.", RETRY_AFTER)
_PENDING: dict[int | str, dict[str, Any]] = {
    202: {
        "model": DocumentOut,
        "description": "The document is pending.",
        "headers": {"Retry-After": _RETRY_AFTER},
    }
}
ASKED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": DocumentOut,
        "description": "The document is large, so a job makes it.",
        "headers": {
            "Location": header("The URL of the document.", f"/documents/{DOCUMENT}"),
            "Retry-After": _RETRY_AFTER,
        },
    }
}
"""The answer to a call that asks for a large document."""
_READY: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The document, in its own media type.",
        "headers": {
            "Content-Disposition": header("The file name of the document.", 'attachment; filename="statement.csv"'),
        },
        "content": {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in formats.FORMATS},
    }
}


@router.get(
    "/documents/{document_id}",
    summary="Fetch a large document",
    response_class=StreamingResponse,
    responses=_READY | _PENDING | problems(*FOR_USERS, DocumentError.NOT_FOUND),
)
async def get_document(
    document_id: DocumentInPath,
    _media_type: DocumentTypeDep,
    identity: UserDep,
    runtime: RuntimeDep,
    session: SessionDep,
) -> Response:
    """Fetch a large document of a statement: 202 while it is pending, then 200 with the document until it expires.

    It is in the format that it was asked for in, whatever `Accept` says.
    """
    found = await documents.get(session, user_id=identity.id, document_id=document_id)
    if found.status is DocumentStatus.PENDING:
        answer = DocumentOut.of(found).model_dump_json()
        return Response(answer, 202, {"Retry-After": RETRY_AFTER}, media_type=JSON_TYPE)
    folder = runtime.settings.documents_path
    file, size = await to_thread.run_sync(_open, folder, document_id)
    headers = {"Content-Disposition": f'attachment; filename="{found.file_name}"', "Content-Length": str(size)}
    return StreamingResponse(_chunks(file), media_type=found.media_type, headers=headers)


async def ask_for_document(
    request: Request, runtime: Runtime, session: AsyncSession, month: Month, media_type: str
) -> Response:
    """Answer 202 with the URL of a large document, which a job makes. Asking again returns the same document.

    Raises Refusal (`too_many_documents`), and RateLimited if its user has drawn too many rows.
    """
    identity: Identity = request.state.identity
    settings = runtime.settings
    new = documents.wanted(settings, user_id=identity.id, month=month, media_type=media_type)
    document_id = await documents.find_same(session, settings, new)
    await session.close()  # the next reading must see what is written now
    if document_id is None:
        runtime.throttles.check_rows(request, identity.id, month.statement.transaction_count)
        document_id = await runtime.intake.run(lambda connection: documents.ask(connection, settings, new), by=identity)
    found = await documents.get(session, user_id=identity.id, document_id=document_id)
    headers = {"Location": f"/documents/{document_id}", "Retry-After": RETRY_AFTER, "Vary": "Accept"}
    return Response(DocumentOut.of(found).model_dump_json(), 202, headers, media_type=JSON_TYPE)


def _open(folder: Any, document_id: Any) -> tuple[BufferedReader, int]:
    file = documents.open_file(folder, document_id)
    return file, file.seek(0, 2)


def _chunks(file: BufferedReader) -> Iterator[bytes]:
    """Read a file in chunks: a slow client must not hold a whole document in memory."""
    with file:
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
