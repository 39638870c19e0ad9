"""Accepting transfers through the intake of the API: a group in one commit, then one after the other."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from uuid import UUID

from api.runtime.intake import Intake
from core.domain.errors import OutcomeUnknown, Refusal, Unavailable
from core.domain.transfers import AcceptedTransfer
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import checkpoint
from tests.builders import BOUNDS, WHOLE_TRANSFERS, Bank, accept, bank_of_two, from_ada_to_bob, rows, settle_all
from tests.faults.every.operation import CRASHED, DONE, TRIES, UNAVAILABLE, UNKNOWN, Said, Tell, new_database, unsound
from tests.faults.every.operations.settle import move_log

FUNDS = 1_000
TOGETHER = {"a": 1, "b": 2, "too much": FUNDS + 1}
"""Key → amount."""
LATER = {"c": 3, "d": 4}
GOOD = {key: amount for key, amount in (TOGETHER | LATER).items() if amount <= FUNDS}

WITH_KEYS = f"""SELECT public_id, idempotency_key AS key, status, count(transfer_id) AS legs
    FROM {WHOLE_TRANSFERS} t LEFT JOIN transactions ON transfer_id = t.id
    WHERE idempotency_key IS NOT NULL GROUP BY t.id"""


def prepare(settings: Settings) -> Bank:
    """Give Ada money."""
    database = new_database(settings)
    bank = bank_of_two(database, ada_has=FUNDS)
    checkpoint(database)
    database.close()
    return bank


def do(settings: Settings, bank: Bank, tell: Tell) -> None:
    """Submit all transfers, each until it is answered, then checkpoint and close."""
    database = Database(settings)
    asyncio.run(_submit_all(database, bank, tell))
    move_log(database, tell)


async def _submit_all(database: Database, bank: Bank, tell: Tell) -> None:
    intake = Intake(database, waiting=100, group=100, seconds=10, bounds=BOUNDS, on_accepted=lambda: None)
    submit = partial(_submit, intake, bank, tell)
    await asyncio.gather(*(submit(key, amount) for key, amount in TOGETHER.items()))
    for key, amount in LATER.items():
        await submit(key, amount)
    await intake.stop()


async def _submit(intake: Intake, bank: Bank, tell: Tell, key: str, amount: int) -> None:
    """Submit one transfer under its key, as a client does: again after a 503."""
    for _ in range(TRIES):
        try:
            transfer = await intake.accept(from_ada_to_bob(bank, amount, idempotency_key=key))
        except Refusal:
            tell("refused", key=key)
            break
        except Unavailable:
            tell(UNAVAILABLE, key=key)
        except OutcomeUnknown:
            tell(UNKNOWN, key=key)
        except Exception as error:
            tell(CRASHED, key=key, why=repr(error))
        else:
            tell(DONE, key=key, id=str(transfer.id))
            break


def judge(settings: Settings, bank: Bank, told: Sequence[Said]) -> list[str]:
    """What was accepted exists once, what was refused does not, and each key makes one transfer when sent again."""
    found = unsound(settings)
    database = Database(settings)
    answers: dict[str, list[Said]] = defaultdict(list)
    for said in told:
        if "key" in said:
            answers[said["key"]].append(said)
    stored = rows(database, WITH_KEYS)
    found += [
        f"{key} was answered {answers[key]}, and there are {ids}"
        for key in TOGETHER | LATER
        if not _fits(answers[key], ids := [str(UUID(bytes=row["public_id"])) for row in stored if row["key"] == key])
    ]
    found += _repeat(database, bank, {key: said[-1].get("id") for key, said in answers.items() if said})
    database.close()
    return found + unsound(settings)


def _fits(answers: Sequence[Said], ids: Sequence[str]) -> bool:
    """Whether the stored transfers with a key are those that the answers promise."""
    if answers and answers[-1]["what"] == DONE:
        return list(ids) == [answers[-1]["id"]]
    if answers and answers[-1]["what"] == "refused":
        return not ids
    # The process may have been killed after it was asked for another answer than the last one.
    certain = len(answers) == TRIES and {said["what"] for said in answers} == {UNAVAILABLE}
    return len(ids) <= (0 if certain else 1)


def _repeat(database: Database, bank: Bank, before: dict[str, str | None]) -> list[str]:
    """Send every key again, settle, and return what is not as it must be."""
    found = []
    for key, amount in GOOD.items():
        (outcome,) = accept(database, from_ada_to_bob(bank, amount, idempotency_key=key))
        if not isinstance(outcome, AcceptedTransfer) or before.get(key) not in (None, str(outcome.id)):
            found.append(f"{key}, sent again, was answered {outcome}, and before {before.get(key)}")
    settle_all(database)
    ended = [(row["key"], row["status"], row["legs"]) for row in rows(database, WITH_KEYS)]
    if sorted(ended) != [(key, "completed", 2) for key in sorted(GOOD)]:
        found.append(f"after sending every key again and settling, the transfers are {ended}")
    return found
