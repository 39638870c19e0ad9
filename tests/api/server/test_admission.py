"""The order in which requests begin."""

import asyncio
from typing import Any, cast

from api.server.admission import TOGETHER, Admission


class Turns:
    """An application that records the address of each request, and the turn of the loop in which it began."""

    def __init__(self) -> None:
        self.began: list[tuple[str, int]] = []
        self._turn = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.began.append((scope["client"][0], self._turn))

    async def count(self, turns: int) -> None:
        for _ in range(turns):
            self._turn += 1
            await asyncio.sleep(0)

    def of(self, address: str) -> list[int]:
        return [turn for one, turn in self.began if one == address]


def request(admission: Admission, address: str) -> Any:
    """Make a request from an address."""
    scope = {"type": "http", "client": (address, 4711), "headers": []}
    return admission(scope, cast(Any, None), cast(Any, None))


async def test_a_network_with_many_requests_lets_others_begin_in_turn() -> None:
    turns = Turns()
    admission = Admission(turns)

    waiting = [request(admission, "198.51.100.1") for _ in range(20 * TOGETHER)]
    waiting += [request(admission, "198.51.100.2") for _ in range(2)]
    await asyncio.gather(turns.count(100), *waiting)
    many, few = turns.of("198.51.100.1"), turns.of("198.51.100.2")
    assert len(many) == 20 * TOGETHER
    assert max(few) < sorted(many)[4 * TOGETHER]


async def test_a_few_requests_begin_in_one_turn_of_the_loop() -> None:
    turns = Turns()
    admission = Admission(turns)
    waiting = [request(admission, f"198.51.100.{number}") for number in range(10 * TOGETHER)]
    await asyncio.gather(turns.count(100), *waiting)
    began = [turn for _, turn in turns.began]
    assert len(began) == 10 * TOGETHER
    assert max(began.count(turn) for turn in began) <= TOGETHER
