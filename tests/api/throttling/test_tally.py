"""Rates, waits after failures, and the places where both are remembered."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import fakeredis
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as ServerLost

import api.throttling.tally
from api.throttling.tally import PREFIX, Memory, Tally, Watched
from core.domain.throttles import SECOND_US, Decision, Patience, Rate, Record

NOW = 1_768_478_400 * SECOND_US
MINUTE_US = 60 * SECOND_US
PATIENCE = Patience(free=3, forget_us=MINUTE_US, first_us=SECOND_US, longest_us=10 * SECOND_US)
ADA = Watched("ada", PATIENCE)
GRACE = Watched("grace", PATIENCE)


def after(failures: int, *, at: int = NOW, patience: Patience = PATIENCE) -> Record:
    """The record after this many failures at one moment."""
    record = Record()
    for _ in range(failures):
        record = patience.count(record, at)
    return record


class TestPatience:
    @pytest.mark.parametrize(
        ("failures", "seconds"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 4), (6, 8), (7, 10), (8, 10), (1000, 10)]
    )
    def test_doubles_the_wait_with_each_failure_beyond_the_free_ones_up_to_a_maximum(
        self, failures: int, seconds: int
    ) -> None:
        assert PATIENCE.delay_us(failures) == seconds * SECOND_US
        assert PATIENCE.look(after(failures), NOW).wait_us == seconds * SECOND_US

    def test_allows_the_next_try_exactly_when_the_wait_is_over(self) -> None:
        record = after(4)
        assert PATIENCE.look(record, NOW + 2 * SECOND_US - 1).wait_us == 1
        assert PATIENCE.look(record, NOW + 2 * SECOND_US).wait_us == 0

    def test_never_locks_out_for_good(self) -> None:
        assert PATIENCE.look(after(1_000_000), NOW + 10 * SECOND_US).wait_us == 0

    @pytest.mark.parametrize(("minutes", "left"), [(0, 1), (0.9, 1), (1, 2), (1.5, 2), (2, 3), (500, 3)])
    def test_forgets_failures_one_by_one(self, minutes: float, left: int) -> None:
        at = NOW + round(minutes * MINUTE_US)
        assert PATIENCE.look(after(2), at).left == left
        assert PATIENCE.failures(after(2), at) == 3 - left

    def test_forgets_everything_in_a_limited_time(self) -> None:
        assert after(1_000_000).gone_at == NOW + PATIENCE.most * MINUTE_US
        assert PATIENCE.most == 3 + 4

    def test_undoes_a_successful_try_and_its_wait(self) -> None:
        record = after(2)
        later = PATIENCE.count(record, NOW + 1)
        assert PATIENCE.look(later, NOW + 1).wait_us == SECOND_US
        forgiven = PATIENCE.forgive(later, NOW + 1)
        assert forgiven.gone_at == record.gone_at
        assert PATIENCE.look(forgiven, NOW + 1) == PATIENCE.look(record, NOW + 1)

    def test_does_not_undo_the_wait_for_a_later_try(self) -> None:
        """Otherwise a client with its own account could try others from the same address without a wait."""
        mine, theirs = NOW + 1, NOW + 2
        record = PATIENCE.count(PATIENCE.count(after(3), mine), theirs)
        assert PATIENCE.look(PATIENCE.forgive(record, mine), theirs).wait_us == PATIENCE.delay_us(4)

    def test_ignores_records_of_a_clock_that_was_ahead(self) -> None:
        record = after(1000, at=NOW + 10**15)
        assert PATIENCE.look(record, NOW).wait_us == 0
        assert PATIENCE.count(record, NOW) == (NOW + PATIENCE.most * MINUTE_US, NOW)

    @pytest.mark.parametrize(
        ("first", "longest", "failures", "delay"), [(5, 5, 9, 5), (5, 3, 3, 3), (1, 10**9, 40, 10**9)]
    )
    def test_never_exceeds_its_maximum(self, first: int, longest: int, failures: int, delay: int) -> None:
        assert Patience(3, MINUTE_US, first, longest).delay_us(failures) == delay


class TestRate:
    @pytest.mark.parametrize(
        ("text", "rate"), [("off", None), ("1/1", Rate(1, 1)), ("999999/86400", Rate(999_999, 86_400))]
    )
    def test_is_read_from_requests_and_seconds(self, text: str, rate: Rate | None) -> None:
        assert Rate.parse(text) == rate

    @pytest.mark.parametrize(
        "text", ["", "0/1", "1/0", "1", "/", "1/1/1", "-1/1", "1.5/1", " 1/1", "OFF", "1000000/1", "١/1"]
    )
    def test_rejects_every_other_form(self, text: str) -> None:
        with pytest.raises(ValueError, match="must be off or requests/seconds"):
            Rate.parse(text)

    def test_allows_the_whole_quota_at_once_and_then_as_tokens_return(self) -> None:
        rate, full_at, decisions = Rate(4, 2), 0.0, []
        for _ in range(5):
            decision, full_at = rate.take(full_at, NOW)
            decisions.append(decision)
        half = SECOND_US // 2
        assert decisions == [(0, 3, half), (0, 2, half), (0, 1, half), (0, 0, half), (half, 0, half)]
        assert rate.take(full_at, NOW + half - 1)[0] == (1, 0, 1)
        assert rate.take(full_at, NOW + half)[0] == (0, 0, half)
        assert rate.take(full_at, NOW + 2 * SECOND_US)[0] == (0, 3, half)

    def test_takes_no_token_for_a_rejected_request(self) -> None:
        rate = Rate(1, 10)
        _, full_at = rate.take(0, NOW)
        for _ in range(5):
            decision, full_at = rate.take(full_at, NOW + SECOND_US)
            assert decision == Decision(9 * SECOND_US, 0, 9 * SECOND_US)

    @given(st.integers(1, 500), st.integers(1, 60), st.lists(st.integers(0, 500_000), min_size=1, max_size=200))
    def test_never_allows_more_than_a_full_bucket_and_its_refill(
        self, requests: int, seconds: int, gaps: list[int]
    ) -> None:
        rate, full_at, now, through = Rate(requests, seconds), 0.0, NOW, 0
        for gap in gaps:
            now += gap
            decision, full_at = rate.take(full_at, now)
            through += decision.wait_us == 0
            assert through <= requests + (now - NOW) * requests / (seconds * SECOND_US) + 1e-3

    def test_recovers_within_its_window_from_a_clock_that_was_ahead(self) -> None:
        assert Rate(5, 10).take(NOW + 10**15, NOW)[0].wait_us == 2 * SECOND_US

    @pytest.mark.parametrize(("requests", "among", "share"), [(1000, 1, 1000), (1000, 4, 250), (10, 4, 3), (1, 64, 1)])
    def test_is_divided_among_processes(self, requests: int, among: int, share: int) -> None:
        assert Rate(requests, 10).share(among) == Rate(share, 10)


class TestMemory:
    def test_is_limited_and_forgets_the_least_recently_used_first(self) -> None:
        memory = Memory(most=3)
        for name in ("ada", "b", "c", "ada", "d", "e"):
            memory.count([Watched(name, PATIENCE)], NOW)
        assert len(memory) == 3
        left = {
            name: PATIENCE.failures(memory.attempt([Watched(name, PATIENCE)], NOW)[1][0], NOW) for name in ("ada", "e")
        }
        assert left == {"ada": 3, "e": 2}

    def test_counts_nothing_if_any_record_has_to_wait(self) -> None:
        memory = Memory()
        for _ in range(3):
            memory.count([ADA], NOW)
        assert memory.attempt([GRACE, ADA], NOW)[0]
        assert memory.attempt([GRACE], NOW) == (False, [after(1)])


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The time of the tally, set by the test."""
    times = {"now": NOW}
    monkeypatch.setattr(api.throttling.tally, "now_us", lambda: times["now"])
    return times


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


@pytest.fixture
async def client(server: fakeredis.FakeServer) -> AsyncIterator[fakeredis.FakeAsyncRedis]:
    client = fakeredis.FakeAsyncRedis(server=server)
    yield client
    await client.aclose()


async def fail(tally: Tally, times: int, *watched: Watched) -> None:
    for _ in range(times):
        assert not (await tally.attempt(watched)).refused


class TestATally:
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["both", "ada", "grace", "forgive", "forget"]),
                st.sampled_from(
                    [0, 1, SECOND_US - 1, SECOND_US, 7 * SECOND_US, 59_999_999, MINUTE_US, 11 * MINUTE_US, -SECOND_US]
                ),
            ),
            max_size=25,
        )
    )
    @hypothesis_settings(max_examples=40)
    def test_at_the_server_agrees_with_the_pure_rules(self, steps: list[tuple[str, int]]) -> None:
        async def play() -> None:
            now, last = NOW, 0
            client = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
            shared, alone = Tally(client), Memory()
            with pytest.MonkeyPatch.context() as patch:
                for what, pause in steps:
                    now += pause
                    patch.setattr(api.throttling.tally, "now_us", lambda now=now: now)
                    if what == "forgive":
                        await shared.forgive(ADA, last)
                        alone.forgive(ADA, last)
                    elif what == "forget":
                        await shared.forget(ADA)
                        alone.forget(ADA)
                    else:
                        watched = {"both": [ADA, GRACE], "ada": [ADA], "grace": [GRACE]}[what]
                        found = await shared.attempt(watched)
                        assert (found.refused, found.records) == alone.attempt(watched, now)
                        last = now
            await client.aclose()

        asyncio.run(play())

    async def test_is_the_same_for_all_processes(self, at: dict[str, int], client: fakeredis.FakeAsyncRedis) -> None:
        one, other = Tally(client), Tally(client)
        await fail(one, 2, ADA)
        await fail(other, 1, ADA)
        assert (await one.attempt([ADA])).refused
        assert (await other.attempt([ADA])).refused
        await other.forget(ADA)
        await fail(one, 3, ADA)

    async def test_counts_concurrent_tries(self, at: dict[str, int], client: fakeredis.FakeAsyncRedis) -> None:
        tally = Tally(client)
        tries = await asyncio.gather(*(tally.attempt([ADA]) for _ in range(50)))
        assert sum(not one.refused for one in tries) == PATIENCE.free

    @pytest.mark.parametrize("tries", [1, 3, 5000])
    async def test_counts_many_failures_in_one_call_as_the_pure_rules_do(
        self, at: dict[str, int], client: fakeredis.FakeAsyncRedis, tries: int
    ) -> None:
        record = PATIENCE.count(PATIENCE.count(Record(), at["now"]), at["now"], tries)
        assert record == after(1 + tries, at=at["now"])
        tally = Tally(client)
        await tally.count(ADA, 1)
        assert await tally.count(ADA, tries) == record
        assert await Tally(client).count(GRACE, 1) == after(1, at=at["now"])
        assert 0 < await client.pttl(PREFIX + ADA.key) <= (record.gone_at - at["now"]) // 1000

    async def test_sets_keys_that_expire(self, at: dict[str, int], client: fakeredis.FakeAsyncRedis) -> None:
        tally = Tally(client)
        await fail(tally, 3, ADA, GRACE)
        await tally.forgive(ADA, NOW)
        keys = await client.keys("*")
        assert {key.decode() for key in keys} == {PREFIX + "ada", PREFIX + "grace"}
        for key in keys:
            assert 0 < await client.pttl(key) <= 3 * 60_000

    @pytest.mark.parametrize(
        "forged", [b"", b"x", b"1", b"-1 -1", b"9" * 400 + b" 0", b"1e400 nan", b"\xff \x00"], ids=repr
    )
    async def test_tolerates_foreign_values_in_its_keys(
        self, at: dict[str, int], client: fakeredis.FakeAsyncRedis, forged: bytes
    ) -> None:
        await client.set(PREFIX + "ada", forged)
        tally = Tally(client)
        tries = [await tally.attempt([ADA]) for _ in range(9)]
        assert tries[-1].refused
        at["now"] += PATIENCE.longest_us
        assert not (await tally.attempt([ADA])).refused


class Lost:
    """An unavailable queue server: each command fails or hangs, as `answer` says."""

    def __init__(self, answer: Any) -> None:
        self.asked = 0
        self._answer = answer

    def register_script(self, _: str) -> Any:
        return self.delete

    async def delete(self, *_: Any, **__: Any) -> Any:
        self.asked += 1
        return await self._answer()


async def refuse() -> None:
    raise ServerLost("Connection refused")


async def hang() -> None:
    await asyncio.Event().wait()


class TestWithoutTheServer:
    @pytest.mark.parametrize("answer", [refuse, hang])
    async def test_each_process_counts_alone_at_once(self, at: dict[str, int], answer: Any) -> None:
        lost = Lost(answer)
        tally = Tally(lost, answer_seconds=0.02)  # type: ignore[arg-type]
        begun = asyncio.get_running_loop().time()
        await fail(tally, 3, ADA)
        assert (await tally.attempt([ADA])).refused
        await tally.forget(ADA)
        await fail(tally, 1, ADA)
        await tally.forgive(ADA, NOW)
        assert lost.asked == 1, "an unavailable server is not asked again at once"
        assert asyncio.get_running_loop().time() - begun < 0.5

    async def test_many_at_once_wait_no_longer_than_one(self, at: dict[str, int]) -> None:
        tally = Tally(Lost(hang), answer_seconds=0.05)  # type: ignore[arg-type]
        begun = asyncio.get_running_loop().time()
        tries = await asyncio.gather(*(tally.attempt([ADA]) for _ in range(200)))
        assert asyncio.get_running_loop().time() - begun < 1
        assert sum(not one.refused for one in tries) == PATIENCE.free

    async def test_records_of_this_process_still_count(
        self, at: dict[str, int], client: fakeredis.FakeAsyncRedis, server: fakeredis.FakeServer
    ) -> None:
        tally = Tally(client)
        await fail(tally, 3, ADA)
        server.connected = False
        assert (await tally.attempt([ADA])).refused

    async def test_the_server_is_asked_again_later_by_one_caller_only(self, at: dict[str, int]) -> None:
        lost = Lost(hang)
        tally = Tally(lost, answer_seconds=0.02, again_seconds=0.04)  # type: ignore[arg-type]
        await fail(tally, 1, ADA)
        await asyncio.sleep(0.05)
        await asyncio.gather(*(tally.attempt([GRACE]) for _ in range(20)))
        assert lost.asked == 2

    async def test_the_server_is_used_again_when_it_is_back(
        self, at: dict[str, int], client: fakeredis.FakeAsyncRedis, server: fakeredis.FakeServer
    ) -> None:
        tally = Tally(client, again_seconds=0)
        await fail(Tally(client), 3, ADA)
        server.connected = False
        await fail(tally, 1, ADA)
        server.connected = True
        assert (await tally.attempt([ADA])).refused

    async def test_a_key_of_another_type_counts_as_missing(
        self, at: dict[str, int], client: fakeredis.FakeAsyncRedis
    ) -> None:
        await client.lpush(PREFIX + "ada", "x")
        tally = Tally(client)
        await fail(tally, 3, ADA)
        assert (await tally.attempt([ADA])).refused
