"""Statements of an account's months, as JSON and as documents."""

from typing import Annotated, Any

from anyio import BrokenWorkerProcess, to_process
from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from api.dependencies import DocumentTypeDep, RuntimeDep, SessionDep, UserDep
from api.http.checks import JSON_TYPE, CheckedRoute
from api.routes.documents import ASKED, ask_for_document
from api.runtime import Runtime
from api.schemas.accounts import TransactionOut
from api.schemas.base import Page, PageQuery
from api.schemas.fields import AccountInPath, StatementInPath
from api.schemas.pages import long_answer, page_of
from api.schemas.problems import FOR_USERS, WITH_BODY, WRITES, header, problems
from api.schemas.statements import AskForStatement, FullStatementOut, MonthQuery, StatementOut, StatementQuery
from core import documents
from core.domain.accounts import AccountError
from core.domain.documents import DocumentError
from core.domain.errors import CommonError, GiroError, Refusal, Unavailable
from core.domain.lanes import Lane
from core.domain.statements import PendingStatement, Period, StatementError
from core.ids import NEWEST
from core.services import accounts
from core.services.statements import reading
from core.services.statements.reading import Month
from core.telemetry.logging import get_logger
from core.telemetry.metrics import documents as metrics

log = get_logger(__name__)

router = APIRouter(tags=["statements"], route_class=CheckedRoute)


_RETRY_AFTER = header("While the statement is pending: seconds to wait before asking again.", "1")
_DOCUMENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The statement, in the format that `Accept` selects.",
        "headers": {
            "Content-Disposition": header("The file name of a document.", 'attachment; filename="statement.csv"'),
            "Vary": header("The format depends on `Accept`.", "Accept"),
        },
        "content": {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in documents.FORMATS},
    }
}
_KEPT_DOCUMENT: dict[int | str, dict[str, Any]] = {
    200: _DOCUMENT[200] | {"headers": _DOCUMENT[200]["headers"] | {"Retry-After": _RETRY_AFTER}}
}
_ASKED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "The statement, which is pending or already made.",
        "headers": {
            "Location": header("The URL of the statement.", "/statements/01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1f"),
            "Retry-After": _RETRY_AFTER,
        },
    }
}
for _code in (
    StatementError.TOO_LARGE,
    DocumentError.TOO_MANY,
    CommonError.RATE_LIMITED,
    CommonError.UNAVAILABLE,
):
    metrics.documents_refused.labels(_code)  # at 0 from the start, so that the first refusal is visible
_FULL: dict[str, Any] = {"response_model": FullStatementOut}


@router.get(
    "/accounts/{account_id}/statement",
    summary="Show an account's month",
    **_FULL,
    responses=_DOCUMENT
    | ASKED
    | problems(
        *FOR_USERS, AccountError.NOT_FOUND, StatementError.NOT_FOUND, StatementError.TOO_LARGE, DocumentError.TOO_MANY
    ),
)
async def get_statement_of_month(
    account_id: AccountInPath,
    query: Annotated[MonthQuery, Query()],
    *,
    request: Request,
    media_type: DocumentTypeDep,
    identity: UserDep,
    runtime: RuntimeDep,
    session: SessionDep,
) -> Response:
    """Show an account's statement of a month, by default the current one.

    If the statement is not made yet, it is computed and `provisional`. `Accept` selects JSON, CSV, PDF or ISO 20022
    camt.053. JSON shows a page of the transactions, newest first; the documents show all of them, oldest first. A job
    makes a large document, and `Location` is its URL.
    """
    account = await accounts.get(session, user_id=identity.id, account_id=account_id)
    period = Period.parse(query.month) if query.month else None
    zone = runtime.settings.zone
    month = await reading.of_month(session, account=account, period=period, zone=zone, bank=runtime.settings.bank)
    if media_type == JSON_TYPE:
        return await _json(runtime, session, month, query)
    return await _document(request, runtime, session, month, media_type)


@router.get(
    "/statements/{statement_id}",
    summary="Show a statement",
    **_FULL,
    responses=_KEPT_DOCUMENT
    | ASKED
    | problems(
        *FOR_USERS,
        StatementError.NOT_FOUND,
        StatementError.PENDING,
        StatementError.TOO_LARGE,
        DocumentError.TOO_MANY,
    ),
)
async def get_statement(
    statement_id: StatementInPath,
    query: Annotated[StatementQuery, Query()],
    *,
    request: Request,
    media_type: DocumentTypeDep,
    identity: UserDep,
    runtime: RuntimeDep,
    session: SessionDep,
) -> Response:
    """Show a statement that was made or requested, in the format that `Accept` selects."""
    found = await reading.get(session, user_id=identity.id, statement_id=statement_id)
    if not isinstance(found, PendingStatement):
        if media_type == JSON_TYPE:
            return await _json(runtime, session, found, query)
        return await _document(request, runtime, session, found, media_type)
    if media_type != JSON_TYPE:
        raise Refusal(StatementError.PENDING)
    answer = FullStatementOut.with_transactions(found, [], limit=query.limit, next_cursor=None)
    return Response(answer.model_dump_json(), media_type=JSON_TYPE, headers={"Vary": "Accept", "Retry-After": "1"})


@router.get(
    "/accounts/{account_id}/statements",
    summary="List the statements of an account",
    response_description="A page of the account's statements, without their transactions.",
    responses=problems(*FOR_USERS, AccountError.NOT_FOUND),
)
async def list_statements(
    account_id: AccountInPath,
    page: Annotated[PageQuery, Query()],
    identity: UserDep,
    runtime: RuntimeDep,
    session: SessionDep,
) -> Page[StatementOut]:
    """List the statements of an account that were made or requested, newest month first."""
    account = await accounts.get(session, user_id=identity.id, account_id=account_id)
    name = f"statements:{account.id}"
    below = runtime.cursors.open(page.cursor, of=name) if page.cursor else NEWEST
    found = await reading.list_for_account(
        session, account=account, below=below, offset=page.offset or 0, limit=page.limit + 1
    )
    return page_of(
        page,
        found,
        show=lambda kept: StatementOut.of(kept.statement),
        cursor=lambda row: runtime.cursors.seal(row.run_id, of=name),
    )


@router.post(
    "/accounts/{account_id}/statements",
    summary="Request a statement",
    status_code=202,
    responses=_ASKED | problems(*FOR_USERS, AccountError.NOT_FOUND, StatementError.NOT_FOUND, *WITH_BODY, *WRITES),
)
async def ask_for_statement(
    account_id: AccountInPath,
    body: AskForStatement,
    *,
    identity: UserDep,
    response: Response,
    runtime: RuntimeDep,
    session: SessionDep,
) -> StatementOut:
    """Request the statement of a finished month. It is `pending` until a job has made it.

    Repeating the request returns the same statement.
    """
    statement_id = await runtime.intake.run(
        lambda connection: reading.ask_for(
            connection,
            user_id=identity.id,
            account_id=account_id,
            period=Period.parse(body.month),
            zone=runtime.settings.zone,
            group=runtime.settings.statement_group,
        ),
        Lane.ACCEPT,
        Lane.SETTLE,
        by=identity,
    )
    found = await reading.get(session, user_id=identity.id, statement_id=statement_id)
    response.headers["Location"] = f"/statements/{statement_id}"
    if isinstance(found, PendingStatement):
        response.headers["Retry-After"] = "1"
        return StatementOut.of(found)
    return StatementOut.of(found.statement)


async def _document(
    request: Request, runtime: Runtime, session: AsyncSession, month: Month, media_type: str
) -> Response:
    try:
        rows = month.statement.transaction_count
        if rows > runtime.settings.statement_transactions:
            raise Refusal(StatementError.TOO_LARGE)
        if rows > runtime.settings.document_rows:
            return await ask_for_document(request, runtime, session, month, media_type)
        return await _drawn(request, runtime, session, month, media_type)
    except GiroError as error:
        metrics.documents_refused.labels(error.code).inc()
        raise


async def _drawn(request: Request, runtime: Runtime, session: AsyncSession, month: Month, media_type: str) -> Response:
    await session.close()  # drawing takes long, and an open snapshot would keep the log from being truncated
    await request.body()  # the body is empty; the next message says that the client has disconnected
    try:
        async with runtime.drawing.turn(request.state.identity.id):
            if await request.is_disconnected():
                raise Unavailable
            # Counted here, so that a document that gets no turn takes nothing from the user's budget.
            rows = max(1, month.statement.transaction_count)
            runtime.throttles.check_rows(request, request.state.identity.id, rows)
            with metrics.document_duration.labels("api").time():
                content = await to_process.run_sync(reading.draw, runtime.settings, month, media_type)
    except BrokenWorkerProcess:
        # The process was killed from outside, perhaps for memory. The next request starts another one.
        log.warning("drawing_ended", account_id=str(month.statement.account_id), period=str(month.statement.period))
        raise Unavailable from None
    name = documents.file_name(month.statement, media_type)
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Vary": "Accept"}
    return Response(content, media_type=media_type, headers=headers)


async def _json(runtime: Runtime, session: AsyncSession, month: Month, query: StatementQuery) -> Response:
    name = f"statement:{month.account_id}:{month.statement.period}"
    start = runtime.cursors.open(query.cursor, of=name) if query.cursor else None
    rows = await reading.list_transactions(session, month, start=start, limit=query.limit)
    following = rows[-1].previous_id if rows else None
    start = following if following is not None and following > month.before else None
    cursor = None if start is None else runtime.cursors.seal(start, of=name)
    shown = FullStatementOut.with_transactions(month.statement, [], limit=query.limit, next_cursor=cursor)
    answer = await long_answer(shown, "transactions", rows, TransactionOut.of)
    answer.headers["Vary"] = "Accept"
    return answer
