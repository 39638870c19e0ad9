"""Query strings mean one thing only: what lax parsing would also take is refused."""

import pytest

from tests.api.conftest import Person

LISTS = ("/accounts", "/transfers")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", ["5.0", "+5", "1_0", " 5", "5 ", "0x5", "５", "٥", "1e1", "true", ""])
async def test_a_limit_is_a_whole_number_in_plain_digits(ada: Person, path: str, limit: str) -> None:
    for name in ("limit", "offset"):
        answer = await ada.get(path, params={name: limit})
        assert (answer.status_code, answer.json()["errors"][0]["location"]) == (422, f"query.{name}")


@pytest.mark.parametrize("path", [*LISTS, "/users/me"])
async def test_a_parameter_that_comes_twice_is_refused_since_either_could_be_meant(ada: Person, path: str) -> None:
    answer = await ada.get(f"{path}?limit=5&limit=6")
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


@pytest.mark.parametrize(
    "moment", ["1700000000", "2026-11-24", "2026-11-24T00:00:00", "yesterday", "-1", "20261124T000000Z"]
)
async def test_a_time_is_a_date_a_time_and_an_offset(ada: Person, moment: str) -> None:
    answer = await ada.get("/transfers", params={"created_from": moment})
    assert answer.status_code == 422


@pytest.mark.parametrize("moment", ["2026-11-24T00:00:00Z", "2026-11-24T01:30:00.5+05:30", "2026-11-24 00:00:00-00:00"])
async def test_a_time_may_have_any_offset_and_any_fraction(ada: Person, moment: str) -> None:
    answer = await ada.get("/transfers", params={"created_from": moment})
    assert answer.status_code == 200


async def test_an_unknown_parameter_is_named(ada: Person) -> None:
    answer = await ada.get("/transfers?colour=blue")
    assert answer.json()["errors"] == [{"location": "query.colour", "message": "Extra inputs are not permitted"}]
