"""A fair line: places in all and for each client, turns of the clients, bounds of the waiting, and callers that go."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.runtime.fair_line import FairLine
from core.domain.errors import Crowded, Unavailable


def line_of(at_once: int, **more: Any) -> FairLine:
    return FairLine("tested", **{"at_once": at_once, "waiting": 100} | more)


class Queue:
    """Callers of a line, by their names: the first letter is the client."""

    def __init__(self, line: FairLine) -> None:
        self.line = line
        self.entered: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str) -> None:
        for name in names:
            self.tasks[name] = asyncio.create_task(self._enter(name))
        await turn_the_loop()

    async def leave(self, name: str) -> None:
        self.line.leave(name[0])
        await turn_the_loop()

    async def give_up(self, name: str) -> None:
        self.tasks[name].cancel()
        await turn_the_loop()

    async def _enter(self, name: str) -> None:
        await self.line.enter(name[0])
        self.entered.append(name)


async def turn_the_loop() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("at_once", "each", "came", "expected"),
    [
        (1, None, "a1 a2 a3 b1", "a1 a2 b1 a3"),
        (1, None, "a1 a2 a3 b1 b2 c1", "a1 a2 b1 c1 a3 b2"),
        (1, None, "a1 b1 b2 b3 a2", "a1 b1 a2 b2 b3"),
        (2, None, "a1 a2 a3 a4 b1", "a1 a2 a3 b1 a4"),
        (2, 1, "a1 a2 a3 b1", "a1 b1 a2 a3"),
        (4, 2, "a1 a2 a3 a4 b1 b2 b3", "a1 a2 b1 b2 a3 a4 b3"),
    ],
)
async def test_clients_take_turns(at_once: int, each: int | None, came: str, expected: str) -> None:
    queue = Queue(line_of(at_once, each=each))
    await queue.come(*came.split())
    for number in range(len(queue.tasks)):
        await queue.leave(queue.entered[number])
    assert queue.entered == expected.split()


async def test_one_client_never_has_more_than_its_places() -> None:
    queue = Queue(line_of(8, each=2))
    await queue.come("a1", "a2", "a3", "b1")
    assert queue.entered == ["a1", "a2", "b1"]
    await queue.leave("b1")
    assert queue.entered == ["a1", "a2", "b1"]
    await queue.leave("a1")
    assert queue.entered == ["a1", "a2", "b1", "a3"]


async def test_a_caller_that_gives_up_is_passed_over() -> None:
    queue = Queue(line_of(1))
    await queue.come("a1", "b1", "c1")
    await queue.give_up("b1")
    await queue.leave("a1")
    assert queue.entered == ["a1", "c1"]
    assert queue.line.waiting == 0


async def test_a_place_given_to_a_caller_that_gives_up_at_that_moment_goes_to_the_next() -> None:
    queue = Queue(line_of(1))
    await queue.come("a1", "b1", "c1")
    queue.line.leave("a")  # b1 has the place, but has not run yet
    queue.tasks["b1"].cancel()
    await turn_the_loop()
    assert queue.entered == ["a1", "c1"]


@pytest.mark.parametrize(
    ("bounds", "came"), [({"waiting": 2, "waiting_each": 2}, "a1 b1 c1"), ({"waiting_each": 2}, "a1 a2 a3")]
)
async def test_a_caller_beyond_the_waiting_ones_is_refused_at_once(bounds: dict[str, int], came: str) -> None:
    queue = Queue(line_of(1, **bounds))
    await queue.come(*came.split())
    async with asyncio.timeout(10):
        with pytest.raises(Crowded):
            await queue.line.enter("a")
    for task in queue.tasks.values():
        task.cancel()


async def test_another_client_may_wait_although_one_has_all_its_waiting_callers() -> None:
    queue = Queue(line_of(1, waiting_each=1))
    await queue.come("a1", "a2", "b1")
    await queue.leave("a1")
    await queue.leave("a2")
    assert queue.entered == ["a1", "a2", "b1"]


async def test_a_full_line_makes_room_for_a_client_with_fewer_callers() -> None:
    queue = Queue(line_of(1, waiting=4))
    await queue.come("a1", "a2", "a3", "a4", "b1")
    await queue.come("c1")
    with pytest.raises(Crowded):
        await queue.tasks["a4"]
    assert queue.line.waiting == 4
    await queue.come("d1")
    with pytest.raises(Crowded):
        await queue.tasks["a3"]
    for client in "aabc":
        await queue.leave(client)
    assert queue.entered == ["a1", "a2", "b1", "c1", "d1"]


@pytest.mark.parametrize("came", ["a5", "b2"])
async def test_a_full_line_makes_no_room_for_a_client_with_as_many_callers(came: str) -> None:
    queue = Queue(line_of(1, waiting=3))
    await queue.come("a1", "a2", "a3", "b1")
    await queue.come(came)
    with pytest.raises(Crowded):
        await queue.tasks[came]
    assert queue.line.waiting == 3


async def test_a_caller_that_gives_up_while_it_makes_room_takes_no_place() -> None:
    queue = Queue(line_of(1, waiting=2))
    await queue.come("a1", "a2", "a3")
    queue.tasks["b1"] = asyncio.create_task(queue._enter("b1"))
    queue.tasks["a3"].get_loop().call_soon(queue.tasks["a3"].cancel)
    await turn_the_loop()
    for client in "aa":
        await queue.leave(client)
    assert queue.entered == ["a1", "a2", "b1"]
    await queue.leave("b")
    await queue.come("a4", "a5")
    assert queue.entered[-1] == "a4"


async def test_a_caller_that_has_waited_for_too_long_is_refused_and_leaves_the_line() -> None:
    line = line_of(1, seconds=0.001)
    await line.enter("a")
    with pytest.raises(Unavailable):
        await line.enter("b")
    assert line.waiting == 0


async def test_a_waiting_caller_whose_client_disconnects_leaves_the_line() -> None:
    line = line_of(1)
    await line.enter("a")
    gone = asyncio.Event()
    waiting = asyncio.create_task(line.enter("b", gone.wait))
    await turn_the_loop()
    assert line.waiting == 1
    gone.set()
    with pytest.raises(Unavailable):
        await waiting
    assert line.waiting == 0


async def test_a_caller_that_has_its_place_is_no_longer_watched() -> None:
    line = line_of(1)
    await line.enter("a")
    watched = asyncio.Event()

    async def gone() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            watched.set()

    waiting = asyncio.create_task(line.enter("b", gone))
    await turn_the_loop()
    line.leave("a")
    await waiting
    await turn_the_loop()
    assert watched.is_set()


async def test_a_turn_ends_with_its_block_even_after_an_error() -> None:
    line = line_of(1)
    with pytest.raises(KeyError):
        async with line.turn("a"):
            raise KeyError
    async with asyncio.timeout(5), line.turn("b"):
        pass


ACTS = st.lists(st.tuples(st.sampled_from(["come", "leave", "give up"]), st.integers(0, 30)), max_size=60)


@given(acts=ACTS, at_once=st.integers(1, 4), each=st.integers(1, 4))
def test_no_order_of_events_loses_a_place_or_passes_a_client_over(
    acts: list[tuple[str, int]], at_once: int, each: int
) -> None:
    asyncio.run(_check(acts, at_once, each))


async def _check(acts: list[tuple[str, int]], at_once: int, each: int) -> None:
    """Do all acts, some of them without a turn of the loop in between, and check the line after each turn."""
    queue = Queue(line_of(at_once, each=each))
    inside: list[str] = []
    seen = 0
    for act, number in acts:
        if act == "come":
            name = f"{'abc'[number % 3]}{len(queue.tasks)}"
            queue.tasks[name] = asyncio.create_task(queue._enter(name))
        elif act == "leave" and inside:
            queue.line.leave(inside.pop(number % len(inside))[0])
        elif act == "give up" and queue.tasks:
            list(queue.tasks.values())[number % len(queue.tasks)].cancel()
        if number % 2:
            await turn_the_loop()
            inside += queue.entered[seen:]
            seen = len(queue.entered)
            _check_places(queue, inside, at_once, each)
    await turn_the_loop()
    inside += queue.entered[seen:]
    _check_places(queue, inside, at_once, each)
    for task in queue.tasks.values():
        task.cancel()


def _check_places(queue: Queue, inside: list[str], at_once: int, each: int) -> None:
    held = Counter(name[0] for name in inside)
    waits = [name for name, task in queue.tasks.items() if not task.done()]
    assert held.total() <= at_once
    assert all(count <= each for count in held.values())
    assert queue.line.waiting == len(waits)
    for client in {name[0] for name in waits}:  # nobody waits for a free place
        assert held.total() == at_once or held[client] == each
        newest = max((int(name[1:]) for name in queue.entered if name[0] == client), default=-1)
        assert newest < min(int(name[1:]) for name in waits if name[0] == client)  # nobody passed who came before


async def test_a_client_waits_for_at_most_one_caller_of_each_other_client() -> None:
    queue = Queue(line_of(1))
    await queue.come(*(f"a{number}" for number in range(50)), *(f"b{number}" for number in range(50)), "c1")
    for number in range(4):
        await queue.leave(queue.entered[number])
    assert "c1" in queue.entered
    for task in queue.tasks.values():
        task.cancel()
