"""Statement runs for operators: the closed months, and the progress of their statements."""

import pytest

from core.services.statements import making
from core.storage.sqlite.engine import Database
from tests.api.conftest import Pair, Person, refused
from tests.months import BANK, close_months, undone_groups, work_off
from tests.time_travel import Clock

PATH = "/operator/statement-runs"


@pytest.fixture
def three(clock: Clock, pair: Pair, database: Database) -> None:
    """January to March are closed, in two groups of accounts each; it is 2 April."""
    assert pair
    clock.set(2026, 4, 2)
    assert close_months(database, group=2) == 3


async def test_no_run_exists_before_the_first_month_is_over(operator: Person, pair: Pair, database: Database) -> None:
    close_months(database)
    assert (await operator.get(PATH)).json()["items"] == []


@pytest.mark.usefixtures("three")
async def test_a_run_shows_its_month_and_its_progress(operator: Person, database: Database, clock: Clock) -> None:
    fresh = {
        "period": "2026-03",
        "time_zone": "UTC",
        "starts_at": "2026-03-01T00:00:00Z",
        "ends_at": "2026-04-01T00:00:00Z",
        "opened_at": "2026-04-02T00:00:00Z",
        "groups": 2,
        "groups_done": 0,
        "statements": 0,
        "finished_at": None,
    }
    assert (await operator.get(PATH)).json()["items"][0] == fresh
    clock.advance(minutes=1)
    making.make_group(database, BANK, undone_groups(database)[-2])
    assert (await operator.get(PATH)).json()["items"][0] == fresh | {"groups_done": 1, "statements": 1}
    work_off(database)
    ended = {"groups_done": 2, "statements": 2, "finished_at": "2026-04-02T00:01:00Z"}
    assert (await operator.get(PATH)).json()["items"][0] == fresh | ended


@pytest.mark.usefixtures("three")
async def test_runs_are_listed_newest_first_in_pages(operator: Person) -> None:
    whole = (await operator.get(PATH)).json()
    assert [run["period"] for run in whole["items"]] == ["2026-03", "2026-02", "2026-01"]
    assert (whole["limit"], whole["offset"], whole["next_cursor"]) == (100, 0, None)
    first = (await operator.get(f"{PATH}?limit=2")).json()
    then = (await operator.get(f"{PATH}?limit=2&cursor={first['next_cursor']}")).json()
    assert first["items"] + then["items"] == whole["items"]
    assert then["next_cursor"] is None
    assert (await operator.get(f"{PATH}?offset=2")).json()["items"] == whole["items"][2:]


@pytest.mark.usefixtures("three")
async def test_a_cursor_of_another_list_is_rejected(operator: Person) -> None:
    cursor = (await operator.get("/operator/users?limit=1")).json()["next_cursor"]
    refused(await operator.get(f"{PATH}?cursor={cursor}"), 422, "validation_failed", "query.cursor")


@pytest.mark.usefixtures("three")
async def test_runs_are_for_operators_only(ada: Person) -> None:
    refused(await ada.get(PATH), 403, "forbidden")
