"""Transfers from a file."""

import csv
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import typer
from rich.progress import Progress
from sqlalchemy import Connection

from core.cli.console import (
    DESCRIPTION,
    complaints,
    counted,
    fail,
    is_description,
    one_line_errors,
    open_database,
    out,
    show,
)
from core.domain.accounts import is_account_number
from core.domain.batches import MAX_BATCH, AcceptedBatch, BatchMode, BatchRequest
from core.domain.errors import ErrorCode, RateLimited, Refusal, Unavailable
from core.domain.lanes import Lane
from core.domain.money import EXPONENTS, MAX_AMOUNT
from core.domain.pending import PendingBounds
from core.domain.transfers import MAX_IDEMPOTENCY_KEY, TransferError, TransferKind, TransferRequest
from core.ids import new_id
from core.queue.broker import connect, make_broker
from core.queue.wakeups import send_wakeup
from core.security.secrets import Secrets
from core.services.identity import operators
from core.services.transfers import batches
from core.settings import Settings, load_settings
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work

app = typer.Typer(no_args_is_help=True, help="Transfers, many at a time.")

NEEDED = ("from", "to", "amount")
COLUMNS = (*NEEDED, "currency", "description")
TOGETHER = 1000
"""Number of lines in one batch. It must never change, because the idempotency keys of an import depend on it: a run
that divided the same file in another way would use other keys, and submit lines a second time."""

LONGEST_NAME = MAX_IDEMPOTENCY_KEY - 15
"""Maximum length of an import's name. The rest of a key is the number of a line."""

DIGITS = len(str(MAX_AMOUNT))

_NAME = re.compile(rf"[!-~]{{1,{LONGEST_NAME}}}")

PATIENCE_SECONDS = 60
"""How long an import waits while too many transfers are pending, before it fails."""

SHOWN = 20
"""Maximum number of wrong or refused lines that are listed. The others are only counted."""


class Line(NamedTuple):
    """One transfer of a file."""

    number: int
    """Its line number in the file. The header is line 1."""
    payer: str
    payee: str
    amount: int
    currency: str | None
    description: str | None


@dataclass(slots=True)
class Outcome:
    """The result of an import."""

    accepted: int = 0
    replayed: int = 0
    """How many of the accepted transfers an earlier run had submitted."""
    refused: list[tuple[int, ErrorCode]] = field(default_factory=list)
    """Line number and reason of each refused line."""

    def add(self, lines: Sequence[Line], batch: AcceptedBatch) -> None:
        """Add the results of some lines."""
        self.accepted += batch.accepted
        self.replayed += batch.accepted if batch.replayed else 0
        fates = zip(lines, batch.lines, strict=True)
        self.refused += [(line.number, fate) for line, fate in fates if isinstance(fate, ErrorCode)]


@app.command("import")
@one_line_errors
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", exists=True, dir_okay=False, help="A CSV file in UTF-8.")],
    user: Annotated[
        str, typer.Option(metavar="EMAIL", help="The user whose accounts pay, and who submits the transfers.")
    ],
    atomic: Annotated[
        bool, typer.Option("--atomic", help="Either all transfers complete or none. At most 5,000 transfers.")
    ] = False,
    key: Annotated[
        str | None, typer.Option(help="Name of the import, instead of the file's digest, to submit a file again.")
    ] = None,
) -> None:
    """Submit the transfers of a CSV file with the columns from, to, amount and, optionally, currency and description.

    Accounts are ids or numbers, amounts are minor units. Nothing is submitted unless every line is valid. If an import
    is interrupted, run it again on the same file: it continues, and does not submit accepted transfers twice.
    """
    content = file.read_bytes()
    lines = read_lines(content)
    if atomic and len(lines) > MAX_BATCH:
        fail(f"{file} has {len(lines)} transfers; an atomic import can have at most {MAX_BATCH}")
    if key is not None and not _NAME.fullmatch(key):
        fail(f"--key: must be 1 to {LONGEST_NAME} visible ASCII characters")
    settings = load_settings()
    database = open_database(settings)
    name = key or f"import-{blake2b(content, digest_size=12).hexdigest()}"
    orders = Orders(database, user, name, BatchMode.ATOMIC if atomic else BatchMode.INDEPENDENT)
    report(submit(orders, lines, settings))


def read_lines(content: bytes) -> list[Line]:
    """Read all lines of a file. Fails with a list of the invalid lines."""
    try:
        reader = csv.DictReader(StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        header = [name.strip().lower() for name in reader.fieldnames or ()]
        if missing := [name for name in NEEDED if name not in header]:
            hint = " (columns are separated by commas)" if any(";" in name for name in header) else ""
            fail(f"the first line must name the columns; missing: {', '.join(missing)}{hint}")
        if unknown := [name for name in header if name not in COLUMNS]:
            fail(f"unknown columns: {', '.join(unknown)}; known columns: {', '.join(COLUMNS)}")
        if len(set(header)) < len(header):
            fail("the first line names a column twice")
        reader.fieldnames = header
        read = [_line(reader.line_num, row) for row in reader]
    except UnicodeDecodeError:
        fail("the file is not in UTF-8")
    except csv.Error as error:
        fail(f"the file is not valid CSV: {error}")
    wrong = [line for line in read if isinstance(line, str)]
    if wrong:
        for complaint in wrong[:SHOWN]:
            complaints.print(complaint, markup=False)
        verb = "is" if len(wrong) == 1 else "are"
        fail(f"{len(wrong)} of {counted(len(read), 'line')} {verb} invalid; nothing was submitted")
    if not read:
        fail("the file has no transfers")
    return [line for line in read if isinstance(line, Line)]


def _line(number: int, row: dict[str, Any]) -> Line | str:
    """Read one line, or return what is wrong with it."""
    if None in row or None in row.values():  # the csv module marks extra and missing fields with None
        return f"line {number}: the number of fields differs from the first line"
    value = {name: text.strip() for name, text in row.items()}
    wrong = [f"{name} must be an account id or number" for name in ("from", "to") if not _is_account(value[name])]
    amount = value["amount"]
    if not (amount.isascii() and amount.isdigit() and len(amount) <= DIGITS and 1 <= int(amount) <= MAX_AMOUNT):
        wrong.append(f"amount must be whole minor units, 1 to {MAX_AMOUNT}")
    currency, description = value.get("currency") or None, value.get("description") or None
    if currency is not None and currency not in EXPONENTS:
        wrong.append("currency must be a code of ISO 4217 that has an exponent")
    if description is not None and not is_description(description):
        wrong.append(f"description must have {DESCRIPTION}")
    if wrong:
        return f"line {number}: {'; '.join(wrong)}"
    return Line(number, value["from"], value["to"], int(amount), currency, description)


def _is_account(text: str) -> bool:
    with suppress(ValueError):
        return is_account_number(text) or bool(UUID(text))
    return False


class Orders:
    """Submits the lines of a file in batches. The same lines always get the same idempotency key."""

    def __init__(self, database: Engine, email: str, name: str, mode: BatchMode) -> None:
        """Raises Refusal (`user_not_found`) if no active user has this e-mail address."""
        self._database = database
        with database.reading() as connection:
            self._user_id = operators.active_user_by_email(connection, email)
        self._name, self._mode = name, mode
        self._request_id = str(new_id())
        self._payers: dict[str, UUID] = {}

    def batches_of(self, lines: Sequence[Line]) -> list[Sequence[Line]]:
        """Divide the lines into parts of a fixed size. An atomic import is a single part."""
        return [lines] if self._mode is BatchMode.ATOMIC else _parts(lines)

    def submit(self, lines: Sequence[Line], bounds: PendingBounds) -> AcceptedBatch:
        """Submit lines as one batch. If too many transfers are pending, it waits for at most `PATIENCE_SECONDS`.

        Raises what `batches.accept` raises.
        """
        request = self._request(lines)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with unit_of_work(self._database, Lane.ACCEPT) as connection:
                    self._refuse_other_keys(connection, lines)
                    return batches.accept(connection, request, bounds)
            except (RateLimited, Unavailable):
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def _request(self, lines: Sequence[Line]) -> BatchRequest:
        said = "\n".join(repr(tuple(line)) for line in lines)
        with self._database.reading() as connection:
            transfers = [self._transfer(connection, line) for line in lines]
        return BatchRequest(
            mode=self._mode,
            submitted_by=self._user_id,
            transfers=transfers,
            idempotency_key=self._key(lines),
            fingerprint=blake2b(f"import {self._mode}\n{said}".encode(), digest_size=16).digest(),
        )

    def _key(self, lines: Sequence[Line]) -> str:
        return f"{self._name}-{lines[0].number}"

    def _refuse_other_keys(self, connection: Connection, lines: Sequence[Line]) -> None:
        """Raise Refusal if an earlier, non-atomic run has submitted some of these lines under other keys."""
        if any(batches.is_bound(connection, self._key(part), self._user_id) for part in _parts(lines)[1:]):
            raise Refusal(TransferError.KEY_REUSED)

    def _transfer(self, connection: Connection, line: Line) -> TransferRequest:
        return TransferRequest(
            kind=TransferKind.TRANSFER,
            submitted_by=self._user_id,
            payer=self._payer(connection, line.payer),
            payee=line.payee if is_account_number(line.payee) else UUID(line.payee),
            amount=line.amount,
            currency=line.currency,
            description=line.description,
            idempotency_key=None,
            fingerprint=None,
            request_id=self._request_id,
        )

    def _payer(self, connection: Connection, name: str) -> UUID:
        """Return the payer's account id. For an unknown account it is a new id, so that only this line is refused."""
        if name not in self._payers:
            try:
                account = name if is_account_number(name) else UUID(name)
                self._payers[name] = operators.account_by_name(connection, account)
            except Refusal:
                self._payers[name] = new_id()
        return self._payers[name]


def submit(orders: Orders, lines: Sequence[Line], settings: Settings) -> Outcome:
    """Submit all lines, batch by batch, and wake the worker after each batch."""
    outcome = Outcome()
    # Only by number: the file may also be imported while nothing settles.
    bounds = replace(settings.pending_bounds, seconds=0)
    broker = make_broker(connect(Secrets(settings).queue_url()))
    with Progress(console=complaints, transient=True, disable=not sys.stderr.isatty()) as drawing:
        task = drawing.add_task("Submitting", total=len(lines))
        for part in orders.batches_of(lines):
            outcome.add(part, orders.submit(part, bounds))
            with suppress(Exception):  # if this fails, the sweep wakes the worker
                send_wakeup(broker)
            drawing.advance(task, len(part))
    return outcome


def _parts(lines: Sequence[Line]) -> list[Sequence[Line]]:
    return [lines[start : start + TOGETHER] for start in range(0, len(lines), TOGETHER)]


def report(outcome: Outcome) -> None:
    """Print what was accepted and what was refused. Ends with exit status 1 if anything was refused."""
    earlier = f", {outcome.replayed} of them by an earlier run" if outcome.replayed else ""
    out.print(f"accepted {counted(outcome.accepted, 'transfer')}{earlier}; a worker settles them", soft_wrap=True)
    if outcome.refused:
        show(
            "line",
            "code",
            "reason",
            rows=[(number, code, code.message) for number, code in outcome.refused[:SHOWN]],
            more=False,
        )
        fail(
            f"{counted(len(outcome.refused), 'line was', 'lines were')} refused; fix and submit them in a separate "
            "file: the others are accepted",
            status=1,
        )
