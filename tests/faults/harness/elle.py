"""The history of a run as Elle reads it: list-append, in EDN, one operation on a line.

Each account is a list of transfers, and a transfer appends its number to two of them. It does so when it settles, so it
is complete when its client has seen that. Reading an account's transactions reads its list. The deposits that funded
the accounts are left out. Source: https://github.com/jepsen-io/elle and https://github.com/ligurio/elle-cli.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise

from tests.faults.harness.history import History, ListRead, Submission

OK, FAIL, INFO = "ok", "fail", "info"
"""How an operation ends: as asked, without any effect, or unknown: it may have an effect at any time."""


@dataclass(slots=True)
class _Operation:
    """What one client did."""

    client: str
    begun: float
    ended: float | None
    """None if no answer tells the end: it lasts until the client's next operation."""
    kind: str
    asked: str
    answered: str


def export(history: History) -> str:
    """Return all operations of a history, in the order of their times."""
    by_client: dict[str, list[_Operation]] = {}
    for operation in _operations(history):
        by_client.setdefault(operation.client, []).append(operation)
    free = count(len(by_client))
    events = [event for first, mine in enumerate(by_client.values()) for event in _events(mine, first, free)]
    return "".join(
        f"{{:index {index} :time {round(seconds * 1e9)} :process {process} :type :{kind} :f :txn :value {value}}}\n"
        for index, (seconds, process, kind, value) in enumerate(sorted(events, key=lambda event: event[0]))
    )


def _events(
    operations: Sequence[_Operation], process: int, free: Iterator[int]
) -> Iterator[tuple[float, int, str, str]]:
    """Yield the begin and the end of each operation of one client, with the number of its process.

    An unknown end has no event. The process counts as crashed, and its client continues as another one.
    """
    last = operations[-1]
    ends = [later.begun for _, later in pairwise(operations)] + [last.begun + 3600]
    for operation, latest in zip(operations, ends, strict=True):
        yield operation.begun, process, "invoke", operation.asked
        ended = latest if operation.ended is None else operation.ended
        yield ended, process, operation.kind, operation.answered
        if operation.kind == INFO:
            process = next(free)


def _operations(history: History) -> Iterator[_Operation]:
    """Yield what each client did, in the client's order."""
    accounts: dict[str, int] = {}
    for number, item in enumerate(history.submissions, 1):
        payer, payee = (accounts.setdefault(account, len(accounts) + 1) for account in (item.payer, item.payee))
        value, kind = f"[[:append {payer} {number}] [:append {payee} {number}]]", _kind(item)
        ended = item.ended_at if kind == OK else None
        yield _Operation(item.key.rpartition("-")[0], item.invoked_at, ended, kind, value, value)
    numbers = {item.id: number for number, item in enumerate(history.submissions, 1) if item.id is not None}
    for read in history.lists:
        yield _read(read, accounts.setdefault(read.account, len(accounts) + 1), history.deposits, numbers)


def _kind(item: Submission) -> str:
    if item.outcome == "fail" or item.cancelled or item.status in ("cancelled", "failed"):
        return FAIL
    return OK if item.status == "completed" else INFO


def _read(read: ListRead, account: int, deposits: set[str], numbers: dict[str | None, int]) -> _Operation:
    asked = f"[[:r {account} nil]]"
    if read.transfers is None:
        return _Operation("lister", read.invoked_at, None, FAIL, asked, asked)
    # A transfer that no client knows gets a number that nobody has appended, and Elle reports it.
    found = [numbers.get(transfer, 0) for transfer in read.transfers if transfer not in deposits]
    listed = " ".join(map(str, found))
    return _Operation("lister", read.invoked_at, read.answered_at, OK, asked, f"[[:r {account} [{listed}]]]")
