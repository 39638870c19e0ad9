"""Dead letters: operators list messages that keep failing, and retry or drop them; both acts are recorded."""

from uuid import UUID, uuid4

import pytest

from core.domain.dead_letters import Letter
from core.services import dead_letters
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.api.conftest import Api, Person, refused
from tests.api.contract import Json
from tests.builders import rows
from tests.time_travel import Clock

PATH = "/operator/dead-letters"
GROUP = Letter("statements", "make_statement_group", (5,))


def fail(database: Database, letter: Letter = GROUP, times: int = 3) -> None:
    for _ in range(times):
        with unit_of_work(database) as connection:
            dead_letters.fail(connection, letter, ZeroDivisionError("by zero"))


async def parked(operator: Person) -> list[Json]:
    answer = await operator.get(PATH)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def count(operator: Person) -> int:
    return (await operator.get("/operator/queue")).json()["parked"]


async def test_a_message_that_failed_three_times_is_listed(operator: Person, database: Database, clock: Clock) -> None:
    fail(database, times=1)
    clock.advance(minutes=1)
    fail(database, times=1)
    assert (await parked(operator), await count(operator)) == ([], 0)
    clock.advance(minutes=1)
    fail(database, times=1)
    (letter,) = await parked(operator)
    assert UUID(letter.pop("id"))
    assert letter == {
        "queue": "statements",
        "actor": "make_statement_group",
        "arguments": [5],
        "error": "ZeroDivisionError: by zero",
        "attempts": 3,
        "first_failed_at": "2026-01-15T12:00:00Z",
        "last_failed_at": "2026-01-15T12:02:00Z",
        "parked_at": "2026-01-15T12:02:00Z",
    }
    assert await count(operator) == 1


async def test_letters_are_listed_oldest_first_in_pages(operator: Person, database: Database) -> None:
    for number in (3, 1, 2):
        fail(database, Letter("statements", "make_statement", (number,)))
    whole = (await operator.get(PATH)).json()
    assert [item["arguments"] for item in whole["items"]] == [[3], [1], [2]]
    assert (whole["limit"], whole["offset"], whole["next_cursor"]) == (100, 0, None)
    first = (await operator.get(f"{PATH}?limit=2")).json()
    then = (await operator.get(f"{PATH}?limit=2&cursor={first['next_cursor']}")).json()
    assert first["items"] + then["items"] == whole["items"]
    assert then["next_cursor"] is None
    assert (await operator.get(f"{PATH}?offset=1&limit=1")).json()["items"] == whole["items"][1:2]


async def test_a_retried_message_is_listed_again_only_after_three_more_failures(
    operator: Person, database: Database
) -> None:
    fail(database)
    (letter,) = await parked(operator)
    answer = await operator.post(f"{PATH}/{letter['id']}/retry")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await parked(operator), await count(operator)) == ([], 0)
    with database.reader.connect() as connection:
        assert dead_letters.dead_letters.to_retry(connection) == [GROUP]
    fail(database, times=2)
    assert await parked(operator) == []
    fail(database, times=1)
    (again,) = await parked(operator)
    assert (again["id"], again["attempts"], again["first_failed_at"]) == (letter["id"], 3, letter["first_failed_at"])


async def test_a_dropped_message_is_deleted(operator: Person, database: Database) -> None:
    fail(database)
    (letter,) = await parked(operator)
    answer = await operator.post(f"{PATH}/{letter['id']}/drop")
    assert (answer.status_code, answer.content) == (204, b"")
    assert rows(database, "SELECT id FROM dead_letters") == []
    assert (await parked(operator), await count(operator)) == ([], 0)


@pytest.mark.parametrize("act", ["retry", "drop"])
async def test_an_act_is_recorded(operator: Person, database: Database, act: str) -> None:
    fail(database)
    (letter,) = await parked(operator)
    answer = await operator.post(f"{PATH}/{letter['id']}/{act}")
    (entry,) = (await operator.get("/operator/audit")).json()["items"]
    assert (entry["action"], entry["object_id"], entry["details"], entry["request_id"]) == (
        {"retry": "dead_letter_retried", "drop": "dead_letter_dropped"}[act],
        letter["id"],
        {"actor": "make_statement_group", "arguments": "[5]"},
        answer.headers["x-request-id"],
    )


@pytest.mark.parametrize("act", ["retry", "drop"])
async def test_a_message_that_is_not_parked_is_not_found_and_nothing_is_recorded(
    operator: Person, database: Database, act: str
) -> None:
    fail(database, times=2)
    young = str(UUID(bytes=rows(database, "SELECT public_id FROM dead_letters")[0]["public_id"]))
    for letter in (young, str(uuid4())):
        refused(await operator.post(f"{PATH}/{letter}/{act}"), 404, "dead_letter_not_found")
    refused(await operator.post(f"{PATH}/x/{act}"), 422, "validation_failed", "path.letter_id")
    assert (await operator.get("/operator/audit")).json()["items"] == []
    assert [row["attempts"] for row in rows(database, "SELECT attempts FROM dead_letters")] == [2]


@pytest.mark.parametrize("act", ["retry", "drop"])
async def test_a_repeated_act_finds_nothing(operator: Person, database: Database, act: str) -> None:
    fail(database)
    (letter,) = await parked(operator)
    await operator.post(f"{PATH}/{letter['id']}/{act}")
    refused(await operator.post(f"{PATH}/{letter['id']}/{act}"), 404, "dead_letter_not_found")
    assert len((await operator.get("/operator/audit")).json()["items"]) == 1


@pytest.mark.parametrize("act", ["retry", "drop"])
async def test_acts_are_for_operators_only(api: Api, ada: Person, database: Database, act: str) -> None:
    fail(database)
    letter = str(UUID(bytes=rows(database, "SELECT public_id FROM dead_letters")[0]["public_id"]))
    refused(await ada.post(f"{PATH}/{letter}/{act}"), 403, "forbidden")
    refused(await api.client.post(f"{PATH}/{letter}/{act}"), 401, "unauthenticated")
    refused(await ada.get(PATH), 403, "forbidden")
    assert [row["attempts"] for row in rows(database, "SELECT attempts FROM dead_letters")] == [3]


async def test_a_cursor_of_another_list_is_rejected(operator: Person, ada: Person) -> None:
    assert ada
    cursor = (await operator.get("/operator/users?limit=1")).json()["next_cursor"]
    refused(await operator.get(f"{PATH}?cursor={cursor}"), 422, "validation_failed", "query.cursor")
