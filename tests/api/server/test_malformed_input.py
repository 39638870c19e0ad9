"""Malformed input: it takes from the same budget as other refusals of strangers (test_refusals.py)."""

import asyncio

import pytest

from api.server.connections import Connection
from tests.api.conftest import Start
from tests.api.server import test_connections
from tests.api.server.test_connections import Serve
from tests.time_travel import Clock

serve = test_connections.serve

MALFORMED = b"nonsense\r\n\r\n"


async def test_has_no_limit_on_the_machine_itself(serve: Serve, start: Start) -> None:
    async with start(limit_anonymous_refusals="1/60") as api:
        served = await serve(refusals=api.runtime.throttles.refusals)
        for _ in range(3):
            assert (await served.exchange(MALFORMED)).status == 400


async def test_gets_no_answer_once_the_budget_of_the_network_is_spent(
    serve: Serve, start: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Connection.connection_made

    def made_from_elsewhere(self: Connection, transport: asyncio.Transport) -> None:
        made(self, transport)
        self.client = ("203.0.113.9", 40_000)

    monkeypatch.setattr(Connection, "connection_made", made_from_elsewhere)
    async with start(limit_anonymous_refusals="2/60") as api:
        served = await serve(refusals=api.runtime.throttles.refusals)
        for _ in range(2):
            assert (await served.exchange(MALFORMED)).status == 400
        client = await served.connect()
        await client.send(MALFORMED)
        assert await client.rest() == []
        clock.advance(seconds=30)
        assert (await served.exchange(MALFORMED)).status == 400
