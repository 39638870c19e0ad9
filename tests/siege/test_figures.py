"""The figures of a siege."""

import pytest

from tests.siege.figures import Attacker, Kind, Phase, Sample, quantile, quieter


@pytest.mark.parametrize(("part", "expected"), [(0.5, 50), (0.99, 99), (1, 100), (0, 1)])
def test_a_quantile_is_the_smallest_value_that_enough_values_do_not_exceed(part: float, expected: int) -> None:
    assert quantile(list(range(100, 0, -1)), part) == expected


def test_the_p99_of_few_values_is_the_largest() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_a_kind_counts_its_failures_by_outcome_and_their_time() -> None:
    kind = Kind.of([Sample(5, "ok"), Sample(10, "ok"), Sample(30_000, "429 rate_limited"), Sample(7, "ok")])
    assert (kind.count, kind.p50, kind.p99, kind.longest) == (4, 7, 30_000, 30_000)
    assert kind.failures == {"429 rate_limited": 1}


def test_an_attackers_rate_includes_closed_connections() -> None:
    assert Attacker(seconds=4, cpu_seconds=1, answers={"200": 6, "closed": 2}).rate == 2


def test_of_two_idle_phases_the_quieter_one_counts_for_each_kind() -> None:
    def idle(**p99: float) -> Phase:
        return Phase("idle", {name: Kind(9, 1, ms, ms, {}) for name, ms in p99.items()}, None, 0, 0)

    found = quieter([idle(accounts=9, login=300), idle(accounts=434, login=200, health=5)])
    assert {name: kind.p99 for name, kind in found.kinds.items()} == {"accounts": 9, "login": 200, "health": 5}
