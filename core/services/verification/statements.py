"""Recomputes every statement, and reports those that differ from their account's legs."""

from collections.abc import Callable, Iterator

from sqlalchemy import Connection

from core.services.verification.report import Report
from core.storage import ledger_rows as rows
from core.storage.ledger_rows import StatementRow
from core.storage.statements import figures as compute


def check_statements(connection: Connection, report: Report, let_go: Callable[[], None]) -> None:
    """Check the statements, each account's newest month first, so that its chain is walked once."""
    later: StatementRow | None = None
    for statement in _all(connection, let_go):
        if later is not None and later.account_id != statement.account_id:
            _check_first(report, later)
            later = None
        _check(connection, report, statement, later)
        later = statement
    if later is not None:
        _check_first(report, later)
    for period, counted, there in rows.runs(connection):
        if counted != there:
            report.add("run_counts_statements", f"{period}: {counted} statements were made, {there} exist")
    let_go()


def _all(connection: Connection, let_go: Callable[[], None]) -> Iterator[StatementRow]:
    below = rows.FROM_THE_LAST
    while found := rows.statements(connection, below=below):
        yield from found
        let_go()
        last = (found[-1].account_id, found[-1].run_id)
        if last >= below:
            raise rows.Disordered(f"the statement of {last} comes after that of {below}")
        below = last


def _check(connection: Connection, report: Report, statement: StatementRow, later: StatementRow | None) -> None:
    start = later.figures.opening_transaction_id if later else statement.last_transaction_id
    figures = compute(
        connection, statement.account_id, start=start, starts_at=statement.starts_at, ends_at=statement.ends_at
    )
    if figures != statement.figures:
        report.add(
            "statement_recomputes",
            f"{_name(statement)} says {statement.figures}, the legs {figures}",
            account=statement.account_id,
        )
    if later and (statement.number, statement.run_id) != (later.number - 1, later.run_id - 1):
        report.add(
            "statements_follow",
            f"{_name(statement)} is number {statement.number}, before number {later.number}",
            account=statement.account_id,
        )
    if later and statement.figures.closing_transaction_id != later.figures.opening_transaction_id:
        report.add(
            "statements_follow",
            f"{_name(statement)} does not end where the next one begins",
            account=statement.account_id,
        )


def _check_first(report: Report, statement: StatementRow) -> None:
    if statement.number != 1 or statement.figures.opening_transaction_id is not None:
        report.add(
            "statements_follow",
            f"{_name(statement)} is the first, and something came before it",
            account=statement.account_id,
        )


def _name(statement: StatementRow) -> str:
    return f"statement {statement.id} of account {statement.account_id}"
