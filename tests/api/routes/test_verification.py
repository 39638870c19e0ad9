"""The last verification of the ledger, read by operators."""

from core.settings import Settings
from core.storage import blocks
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.api.conftest import Pair, Person, refused
from tests.time_travel import Clock
from workers.jobs import upkeep

PATH = "/operator/verification"


async def test_before_the_first_verification_the_state_is_unknown(operator: Person) -> None:
    answer = await operator.get(PATH)
    assert answer.status_code == 200
    assert answer.json() == {
        "holds": None,
        "scope": None,
        "height": None,
        "head_hash": None,
        "anchored_height": None,
        "started_at": None,
        "finished_at": None,
        "accounts": None,
        "transfers": None,
        "transactions": None,
        "breach_count": None,
        "breaches": [],
    }


async def test_a_verification_that_holds_reports_the_number_of_rows(
    clock: Clock, operator: Person, pair: Pair, database: Database, settings: Settings
) -> None:
    assert clock
    assert pair
    upkeep.verify(database, settings)
    with database.reader.connect() as connection:
        head = blocks.head(connection)
    assert (await operator.get(PATH)).json() == {
        "holds": True,
        "scope": "full",
        "height": head.height,
        "head_hash": head.hash.hex(),
        "anchored_height": None,
        "started_at": "2026-01-15T12:00:00Z",
        "finished_at": "2026-01-15T12:00:00Z",
        "accounts": 3,
        "transfers": 1,
        "transactions": 2,
        "breach_count": 0,
        "breaches": [],
    }


async def test_a_failed_verification_reports_its_breaches(
    clock: Clock, operator: Person, pair: Pair, database: Database, settings: Settings
) -> None:
    assert pair
    upkeep.verify(database, settings)
    with unit_of_work(database) as connection:
        connection.exec_driver_sql(
            "UPDATE reservations SET reserved_low = 7 FROM accounts "
            "WHERE id = account_id AND kind = 'customer' AND balance > 0"
        )
    clock.advance(hours=24)
    upkeep.verify(database, settings)
    found = (await operator.get(PATH)).json()
    assert (found["holds"], found["breach_count"], found["started_at"]) == (False, 1, "2026-01-16T12:00:00Z")
    detail = "account 2: (7, 0) reserved (amount, number), (0, 0) pending"
    places = {"account": 2, "transfer": None, "block": None}
    assert found["breaches"] == [{"rule": "reserved_is_pending", "detail": detail, **places}]


async def test_it_is_for_operators_only(ada: Person) -> None:
    refused(await ada.get(PATH), 403, "forbidden")
