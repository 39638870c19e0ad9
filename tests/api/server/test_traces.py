"""Traces of requests: the root span and the wait for the commit."""

import asyncio
from uuid import uuid4

import pytest

from core.storage.sqlite.engine import Database
from core.telemetry import tracing
from core.telemetry.tracing import Kind, Span
from core.telemetry.tracing.ids import Caller, root_id_of, trace_id_of
from tests.api.conftest import Api, Pair, Person, Start, join, locked, payment, until
from tests.recorded_spans import record_spans

CALLER = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture
def spans(api: Api, monkeypatch: pytest.MonkeyPatch) -> list[Span]:
    """All spans of the test; traces are turned on once the application runs."""
    return record_spans(monkeypatch)


async def commits_of(spans: list[Span], count: int) -> list[Span]:
    """The commits among the spans, once there are `count`: the writer sends them after the clients have answers."""

    def commits() -> list[Span]:
        return [span for span in spans if span.name == "intake commit"]

    await until(lambda: len(commits()) >= count)
    assert len(commits()) == count
    return commits()


async def test_a_direct_call_has_a_root_span_and_a_commit(spans: list[Span], ada: Person, pair: Pair) -> None:
    spans.clear()
    answer = await ada.post("/transfers", payment(pair.payer, pair.payee))
    assert answer.status_code == 202
    (commit,) = await commits_of(spans, 1)
    (root,) = [span for span in spans if span is not commit]
    trace_id = trace_id_of(answer.headers["x-request-id"])
    assert (root.name, root.kind, root.trace_id, root.parent_id) == ("POST /transfers", Kind.SERVER, trace_id, None)
    assert root.attributes["http.response.status_code"] == 202
    assert (commit.name, commit.trace_id, commit.parent_id) == ("intake commit", trace_id, root.span_id)
    assert root.span_id == root_id_of(trace_id)
    assert root.started_at <= commit.started_at <= commit.ended_at <= root.ended_at
    assert not root.failed
    assert not commit.failed


async def test_a_framework_route_is_named_by_its_template(spans: list[Span], ada: Person) -> None:
    await ada.get(f"/transfers/{uuid4()}")
    (root,) = spans
    assert root.name == "GET /transfers/{transfer_id}"
    assert root.attributes["http.route"] == "/transfers/{transfer_id}"
    assert (root.attributes["http.response.status_code"], root.failed) == (404, False)


@pytest.mark.parametrize(
    ("method", "path", "name", "shown"),
    [("GET", "/nothing/4111111111111111", "GET", "GET"), ("BREW", "/transfers", "HTTP /transfers", "_OTHER")],
)
async def test_a_span_has_no_text_of_the_client_but_its_request_id(
    api: Api, spans: list[Span], method: str, path: str, name: str, shown: str
) -> None:
    headers = {"X-Request-ID": "mine", "User-Agent": "typed"}
    answer = await api.client.request(method, f"{path}?secret=typed", headers=headers)
    (root,) = spans
    assert root.name == name
    assert root.attributes["http.request.method"] == shown
    assert root.attributes["giro.request_id"] == answer.headers["x-request-id"]
    assert root.attributes["giro.client_request_id"] == "mine"
    assert "typed" not in repr(root)
    assert "4111" not in repr(root)


async def test_a_server_error_is_marked(api: Api, spans: list[Span], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_fields: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("api.routes.health.HealthOut", broken)
    assert (await api.client.get("/health/live")).status_code == 500
    (root,) = spans
    assert root.failed
    assert root.attributes["http.response.status_code"] == 500


async def test_a_refusal_is_not_an_error_of_its_span(spans: list[Span], ada: Person, pair: Pair) -> None:
    answer = await ada.post("/transfers", payment(pair.payer, pair.payee, 10**9))
    assert answer.json()["code"] == "insufficient_funds"
    (commit,) = await commits_of(spans, 1)
    assert (commit.attributes["giro.code"], commit.failed) == ("insufficient_funds", False)


async def test_a_request_that_expires_in_the_intake_is_an_error(
    start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(intake_seconds=0.1) as api:
        ada = join(api, database, "ada")
        spans = record_spans(monkeypatch)
        with locked(database):
            assert (await ada.post("/accounts", {"currency": "USD"})).status_code == 503
        (commit,) = await commits_of(spans, 1)
    assert (commit.attributes["giro.code"], commit.failed) == ("unavailable", True)


async def test_requests_of_one_group_have_a_commit_each(
    spans: list[Span], database: Database, ada: Person, pair: Pair
) -> None:
    spans.clear()
    with locked(database):
        calls = [asyncio.ensure_future(ada.post("/transfers", payment(pair.payer, pair.payee, 1))) for _ in range(5)]
        await asyncio.sleep(0.2)
    ids = {answer.headers["x-request-id"] for answer in await asyncio.gather(*calls)}
    commits = await commits_of(spans, 5)
    assert {span.trace_id for span in commits} == {trace_id_of(request_id) for request_id in ids}
    assert len({span.span_id for span in commits}) == 5
    assert sum(1 for span in commits if span.attributes["giro.group_size"] == 5) >= 4


@pytest.mark.parametrize("headers", [[], ["garbage"], [CALLER, CALLER]])
async def test_a_caller_without_one_valid_traceparent_is_not_linked(
    api: Api, spans: list[Span], headers: list[str]
) -> None:
    await api.client.get("/health/live", headers=[("traceparent", header) for header in headers])
    (root,) = spans
    assert root.caller is None
    assert "giro.caller_trace_id" not in root.attributes


async def test_a_callers_span_is_linked_and_the_request_id_stays_ours(api: Api, spans: list[Span]) -> None:
    answer = await api.client.get("/health/live", headers={"traceparent": CALLER})
    (root,) = spans
    assert root.caller == Caller(int("a" * 32, 16), int("b" * 16, 16), 1)
    assert root.attributes["giro.caller_trace_id"] == "a" * 32
    assert root.trace_id == trace_id_of(answer.headers["x-request-id"])


async def test_an_unsampled_request_has_no_span(
    api: Api, ada: Person, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled: set[int] = set()
    spans = record_spans(monkeypatch, sampled.__contains__)
    ids = iter([uuid4(), second := uuid4(), uuid4()])
    sampled.add(trace_id_of(str(second)))
    monkeypatch.setattr("api.server.observe.new_id", lambda: next(ids))
    for _ in range(3):
        await ada.post("/transfers", payment(pair.payer, pair.payee))
    await commits_of(spans, 1)
    assert {span.trace_id for span in spans} == sampled
    assert len(spans) == 2


async def test_nothing_is_traced_by_default(ada: Person, pair: Pair) -> None:
    await ada.post("/transfers", payment(pair.payer, pair.payee))
    assert tracing.active is None
