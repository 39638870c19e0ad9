"""Query strings have one meaning only: input that lax parsing would accept is rejected."""

from time import thread_time

import pytest
import starlette.datastructures
from fastapi import Request
from fastapi.exceptions import RequestValidationError

from api.http.checks import _check_query
from api.server.request_bounds import MOST_PARAMETERS
from tests.api.conftest import Api, Person, refused

LISTS = ("/accounts", "/transfers")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", ["5.0", "+5", "1_0", " 5", "5 ", "0x5", "５", "٥", "1e1", "true", ""])
async def test_a_limit_is_an_integer_in_plain_digits(ada: Person, path: str, limit: str) -> None:
    for name in ("limit", "offset"):
        answer = await ada.get(path, params={name: limit})
        assert (answer.status_code, answer.json()["errors"][0]["location"]) == (422, f"query.{name}")


@pytest.mark.parametrize("path", [*LISTS, "/users/me"])
async def test_a_repeated_parameter_is_rejected_because_it_is_ambiguous(ada: Person, path: str) -> None:
    answer = await ada.get(f"{path}?limit=5&limit=6")
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


@pytest.mark.parametrize(
    "moment", ["1700000000", "2026-11-24", "2026-11-24T00:00:00", "yesterday", "-1", "20261124T000000Z"]
)
async def test_a_time_has_a_date_a_time_and_an_offset(ada: Person, moment: str) -> None:
    answer = await ada.get("/transfers", params={"created_from": moment})
    assert answer.status_code == 422


@pytest.mark.parametrize("moment", ["2026-11-24T00:00:00Z", "2026-11-24T01:30:00.5+05:30", "2026-11-24 00:00:00-00:00"])
async def test_a_time_may_have_any_offset_and_any_fraction(ada: Person, moment: str) -> None:
    answer = await ada.get("/transfers", params={"created_from": moment})
    assert answer.status_code == 200


async def test_an_unknown_parameter_is_named(ada: Person) -> None:
    answer = await ada.get("/transfers?colour=blue")
    assert answer.json()["errors"] == [{"location": "query.colour", "message": "Extra inputs are not permitted"}]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The query strings that the framework has parsed."""
    seen: list[str] = []
    parse = starlette.datastructures.parse_qsl

    def watched(query: str, **how: bool) -> list[tuple[str, str]]:
        seen.append(query)
        return parse(query, **how)

    monkeypatch.setattr(starlette.datastructures, "parse_qsl", watched)
    return seen


def query_of(count: int, word: str = "p{}") -> str:
    """Make a query with `count` parameters, each with its own name."""
    return "&".join(word.format(number) for number in range(count))


CALLS = (
    "GET /",
    "GET /health/live",
    "HEAD /health/live",
    "GET /transfers",
    "GET /users/me",
    "POST /transfers",
    "POST /transfers/bulk",
    "POST /accounts",
    "POST /login",
    "DELETE /transfers",
    "GET /openapi.json",
    "GET /docs",
    "GET /docs/assets/swagger-ui.css",
    "GET /nothing",
)
"""One call of each kind: with or without query parameters, routed by the framework or by us, and without a route."""


class TestManyParameters:
    @pytest.mark.parametrize("word", ["p{}", "limit={}", ""], ids=["names", "one name", "nothing"])
    async def test_are_rejected_before_they_are_parsed(
        self, api: Api, ada: Person, parsed: list[str], word: str
    ) -> None:
        parsed.clear()
        for method, path in map(str.split, CALLS):
            url = f"{path}?{query_of(MOST_PARAMETERS + 1, word)}"
            for answer in (await api.client.request(method, url), await ada.request(method, url)):
                assert (answer.status_code, answer.headers["connection"]) == (422, "close"), f"{method} {path}"
                if method != "HEAD":
                    problem = refused(answer, 422, "validation_failed", "query")
                    assert problem["errors"][0]["message"] == "The query has more than 64 parameters."
        assert parsed == []

    @pytest.mark.parametrize(("path", "status"), [("/health/live", 422), ("/docs", 200), ("/nothing", 404)])
    async def test_up_to_the_limit_are_checked_as_usual(self, api: Api, path: str, status: int) -> None:
        answer = await api.client.get(f"{path}?{query_of(MOST_PARAMETERS)}")
        assert answer.status_code == status
        if status == 422:
            assert "There are 64 errors, and 50 of them are listed." in answer.json()["detail"]

    def test_take_time_in_proportion_to_their_number(self) -> None:
        """Twenty thousand are checked in under a second: comparing each with each would take many seconds."""
        request = Request({"type": "http", "headers": [], "query_string": query_of(20_000).encode()})
        began = thread_time()
        with pytest.raises(RequestValidationError):
            _check_query(request, takes_query=False)
        assert thread_time() - began < 1
