"""Settling pending transfers in several units of work, and moving the log into the database afterwards."""

from collections.abc import Sequence

from core.domain.errors import OutcomeUnknown, Unavailable
from core.services.transfers.settlement import settle_pending
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import checkpoint
from tests.builders import WHOLE_TRANSFERS, accepted, bank_of_two, from_ada_to_bob, rows, settle_all
from tests.faults.every.operation import CRASHED, DONE, TRIES, UNAVAILABLE, UNKNOWN, Said, Tell, new_database, unsound

FUNDS = 1_000
AMOUNTS = (1, 2, 3, 4, 5)
BATCH = 2
"""Transfers in one unit of work: there are three units of work."""

ENDED = f"""SELECT status, count(transfer_id) AS legs
    FROM {WHOLE_TRANSFERS} t LEFT JOIN transactions ON transfer_id = t.id
    WHERE kind = 'transfer' GROUP BY t.id ORDER BY t.id"""


def prepare(settings: Settings) -> None:
    """Accept transfers, and settle none."""
    database = open_bank(settings)
    checkpoint(database)
    database.close()


def open_bank(settings: Settings) -> Database:
    """Make a bank with pending transfers. It is still open, and everything may be in the log."""
    database = new_database(settings)
    bank = bank_of_two(database, ada_has=FUNDS)
    for amount in AMOUNTS:
        accepted(database, from_ada_to_bob(bank, amount))
    return database


def do(settings: Settings, _facts: None, tell: Tell) -> None:
    """Settle until it succeeds once, as the worker does, then checkpoint and close."""
    database = Database(settings)
    for _ in range(TRIES):
        try:
            settle_pending(database, batch=BATCH, lock_ms=1000)
        except Unavailable:
            tell(UNAVAILABLE)
        except OutcomeUnknown:
            tell(UNKNOWN)
        except Exception as error:
            tell(CRASHED, why=repr(error))
        else:
            tell(DONE)
            break
    move_log(database, tell)


def move_log(database: Database, tell: Tell) -> None:
    """Checkpoint, and close the database. Failures are only told: upkeep comes again, and so does the next start."""
    try:
        checkpoint(database)
        database.close()
    except Exception as error:
        tell("no checkpoint", why=repr(error))


def judge(settings: Settings, _facts: None, told: Sequence[Said]) -> list[str]:
    """Transfers have ended in their order, each once or not at all, and the rest can be settled."""
    found = unsound(settings)
    database = Database(settings)
    transfers = [(row["status"], row["legs"]) for row in rows(database, ENDED)]
    ended = transfers.count(("completed", 2))
    if transfers != [("completed", 2)] * ended + [("pending", 0)] * (len(AMOUNTS) - ended):
        found.append(f"the transfers are {transfers}")
    if any(said["what"] == DONE for said in told) and ended < len(AMOUNTS):
        found.append(f"all were said to be settled, and {ended} are")
    settle_all(database)
    balances = [row["balance"] for row in rows(database, "SELECT balance FROM accounts WHERE kind = 'customer'")]
    if sorted(balances) != sorted((FUNDS - sum(AMOUNTS), sum(AMOUNTS))):
        found.append(f"after settling the rest, the balances are {balances}")
    database.close()
    return found + unsound(settings)
