"""The judgement of a siege: each figure beyond its bound ends it with exit status 1."""

from dataclasses import replace

import pytest

from tests.siege.aims import AIMS, MEMORY_MB, exit_status, judge, judge_service
from tests.siege.attacks import ATTACKS
from tests.siege.customer import RATES
from tests.siege.figures import Attacker, Kind, Phase

ATTACKER = Attacker(seconds=15, cpu_seconds=1, answers={"200": 1000, "429": 5})
NAMES = [attack.name for attack in ATTACKS]
SOUND = {"restarts": {"api": 0}, "verified": True, "said": "block 1: 00", "filled": 10, "wanted": 10}


def kind(p99: float, **failures: int) -> Kind:
    return Kind(count=60, p50=1, p99=p99, longest=p99, failures=failures)


def phase(name: str, *, p99: float = 5, memory_mb: float = 200, attacker: Attacker | None = ATTACKER) -> Phase:
    kinds = dict.fromkeys([*RATES, "complete", "shared sign-up"], kind(p99))
    return Phase(name, kinds, attacker, memory_mb, rest_seconds=0)


IDLE = phase("idle", attacker=None)


def with_kind(name: str, attack: str, measured: Kind) -> Phase:
    good = phase(attack)
    return replace(good, kinds={**good.kinds, name: measured})


def status(*phases: Phase, idle: Phase = IDLE) -> int:
    return exit_status(judge(phases, idle))


def test_a_service_that_nothing_disturbs_holds_all_aims() -> None:
    assert status(IDLE, *map(phase, NAMES)) == 0


def test_every_attack_has_an_aim() -> None:
    assert {name for aim in AIMS for name in aim.attacks} == set(NAMES)


@pytest.mark.parametrize(
    ("attack", "name", "bound"),
    [
        ("readers", "accounts", 50),
        ("readers", "login", 1000),
        ("month", "accounts", 50),
        ("month", "login", 1000),
        ("bulk", "complete", 1500),
        ("documents", "document", 3000),
        ("strangers", "health", 1000),
        ("strangers", "login", 1000),
        ("guessing", "login", 2000),
        ("sign-ups", "accounts", 1000),
        ("sign-ups", "shared sign-up", 15_000),
        ("payees", "accounts", 1000),
        ("hostile", "accounts", 1000),
        ("refusals", "accounts", 1000),
    ],
)
def test_a_time_beyond_its_bound_misses_the_aim(attack: str, name: str, bound: float) -> None:
    assert status(with_kind(name, attack, kind(bound))) == 0
    assert status(with_kind(name, attack, kind(bound + 1))) == 1


def test_the_bound_of_accounts_is_five_times_the_idle_time() -> None:
    idle = phase("idle", p99=30)
    assert status(with_kind("accounts", "readers", kind(150)), idle=idle) == 0
    assert status(with_kind("accounts", "readers", kind(151)), idle=idle) == 1


def test_a_fixed_bound_is_twice_the_idle_time_on_a_slow_machine() -> None:
    idle = phase("idle", p99=900)
    assert status(with_kind("login", "readers", kind(1800)), idle=idle) == 0
    assert status(with_kind("login", "readers", kind(1801)), idle=idle) == 1


@pytest.mark.parametrize("name", [*RATES, "complete", "shared sign-up"])
def test_one_failed_action_misses_the_aim_under_every_attack(name: str) -> None:
    for attack in NAMES:
        assert status(with_kind(name, attack, kind(5, outcome=1))) == 1


def test_a_bound_of_time_grows_with_the_slack() -> None:
    slow = with_kind("login", "readers", kind(3000))
    assert [exit_status(judge([slow], IDLE, slack)) for slack in (2.9, 3)] == [1, 0]


def test_with_slack_a_few_actions_may_fail() -> None:
    some = [with_kind("login", "readers", kind(5, outcome=count)) for count in (12, 13)]
    assert [exit_status(judge([one], IDLE, 5)) for one in some] == [0, 1]
    assert exit_status(judge([with_kind("login", "readers", kind(5, outcome=1))], IDLE)) == 1


def test_an_aim_without_measurements_is_missed() -> None:
    good = phase("bulk")
    assert status(replace(good, kinds={"accounts": kind(5)})) == 1
    assert status(replace(good, kinds={})) == 1
    assert exit_status([]) == 1


def test_memory_above_the_limit_of_the_container_misses_the_aim() -> None:
    assert status(phase("readers", memory_mb=MEMORY_MB)) == 0
    assert status(phase("readers", memory_mb=MEMORY_MB + 1)) == 1


def test_an_attack_without_answers_proves_nothing() -> None:
    assert status(phase("readers", attacker=replace(ATTACKER, answers={"not connected": 9}))) == 1


@pytest.mark.parametrize("bad", [{"restarts": {"api": 1}}, {"verified": False}, {"filled": 9}], ids=str)
def test_a_restart_a_breach_or_a_quiet_month_misses_the_aim(bad: dict[str, object]) -> None:
    assert exit_status(judge_service(**SOUND)) == 0
    assert exit_status(judge_service(**SOUND | bad)) == 1
