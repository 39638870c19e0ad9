"""Isolating: after a breach, the accounts that it concerns are set apart, and all others go on."""

from collections.abc import Iterable

from sqlalchemy import Connection

from core.clock import now_us, to_datetime
from core.domain.accounts import AccountKind
from core.domain.audit import Act, Action, Author
from core.domain.isolation import BLOCK_RULES, Isolation
from core.domain.lanes import Lane
from core.domain.verification import Breach
from core.services.audit import write_all_down, write_down
from core.services.verification import kept, verify
from core.services.verification.anchors import Anchors
from core.services.verification.report import Report
from core.services.verification.scan import Progress
from core.storage import accounts, isolations, ledger_checks, ledger_rows
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work

MOST_ACCOUNTS = 1000
"""Accounts that are isolated at most. A breach that concerns more is one of the whole ledger."""

MOST_BREACHES = 10_000


class CannotIsolate(Exception):
    """An isolation is not the answer to what was found. The message is one line for an operator."""


def isolate(
    database: Engine, author: Author, anchors: Anchors, reason: str, progress: Progress = lambda done, of: None
) -> Report:
    """Set the accounts apart that the present breaches concern, verify the rest, and keep the result.

    Settlement continues if the returned report holds. Raises CannotIsolate if no account can be named.
    """
    report = _verified(database, anchors, progress)
    if report.holds:
        raise CannotIsolate("no rule is broken, except in accounts that are isolated already")
    if len(report.breaches) < report.counts.total():
        raise CannotIsolate(f"more than {MOST_BREACHES} places break one rule: restore a backup")
    with unit_of_work(database, Lane.ACCEPT, Lane.SETTLE) as connection:
        if (end := kept.find_breach(connection)) is not None:
            raise CannotIsolate(f"the end of the ledger is broken: {end.breaches[0].detail}; restore a backup")
        before = isolations.current(connection) or Isolation()
        added = _concerned(connection, report.breaches) - before.accounts.keys()
        if not added and not before.accounts:
            raise CannotIsolate(f"no account can be named, first {report.breaches[0].rule}: see `giro verify`")
        if len(added) + len(before.accounts) > MOST_ACCOUNTS:
            raise CannotIsolate(f"the breaches concern more than {MOST_ACCOUNTS} accounts: restore a backup")
        _set_apart(connection, author, _joined(connection, before, added, report.breaches), added, reason)
    return _verified(database, anchors, progress)


def release(database: Engine, author: Author, anchors: Anchors, progress: Progress = lambda done, of: None) -> Report:
    """Let the isolated accounts take part again, once no rule about money is broken, and keep the verification.

    Broken blocks and anchors then halt settlement until they are resealed. Raises CannotIsolate as `isolate` does.
    """
    started_at = to_datetime(now_us())
    report = verify(database, anchors=anchors, progress=progress, isolated=False)
    if others := sorted(report.counts.keys() - BLOCK_RULES):
        raise CannotIsolate(f"the isolated accounts still break rules: {', '.join(others)}")
    with unit_of_work(database, Lane.ACCEPT, Lane.SETTLE) as connection:
        isolation = isolations.current(connection)
        if isolation is None:
            raise CannotIsolate("no account is isolated")
        isolations.end(connection)
        accounts.restore(connection, isolation.accounts)
        write_down(connection, author, Action.LEDGER_ISOLATION_ENDED, None, accounts=len(isolation.accounts))
        kept.keep(connection, report, started_at=started_at)
    return report


def _verified(database: Engine, anchors: Anchors, progress: Progress) -> Report:
    started_at = to_datetime(now_us())
    report = verify(database, anchors=anchors, progress=progress, most=MOST_BREACHES)
    with unit_of_work(database) as connection:
        kept.keep(connection, report, started_at=started_at)
    return report


def _concerned(connection: Connection, breaches: Iterable[Breach]) -> set[int]:
    """Return the accounts that breaches name, and the customers' accounts of the transfers that they name."""
    found = set()
    for breach in breaches:
        if breach.account is not None:
            found.add(breach.account)
        elif breach.transfer is not None and (row := ledger_rows.transfer(connection, breach.transfer)) is not None:
            found |= {row.terms.from_account_id, row.terms.to_account_id} - _externals(connection)
    return found


def _externals(connection: Connection) -> set[int]:
    """Return the external accounts. Isolating one would stop all deposits, so it must be named itself."""
    return {account.id for account in ledger_rows.accounts(connection) if account.kind == AccountKind.EXTERNAL}


def _joined(connection: Connection, before: Isolation, added: set[int], breaches: Iterable[Breach]) -> Isolation:
    """Return an isolation of more accounts. Only the currencies of isolated accounts get another sum than 0."""
    statuses = before.accounts | accounts.statuses(connection, added)
    transfers = {breach.transfer for breach in breaches if breach.transfer is not None}
    known = {breach.detail for breach in breaches if breach.rule in BLOCK_RULES}
    currencies = {account.currency for account in ledger_rows.accounts(connection) if account.id in statuses}
    rest = ledger_checks.imbalances(connection, without=statuses)
    sums = {currency: rest.get(currency, 0) for currency in currencies}
    return Isolation(statuses, before.transfers | transfers, before.known | known, sums)


def _set_apart(connection: Connection, author: Author, isolation: Isolation, added: set[int], reason: str) -> None:
    isolations.begin(connection, isolation, by=author.user_id or 0, reason=reason)
    frozen = accounts.freeze_all(connection, added)
    write_down(connection, author, Action.LEDGER_ISOLATED, None, reason=reason, accounts=len(isolation.accounts))
    write_all_down(
        connection,
        [Act(author=author, action=Action.ACCOUNT_ISOLATED, object_id=account) for account in frozen],
    )
