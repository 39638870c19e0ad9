"""The judgement on the wall clock, as a table of what happened to the machine."""

import pytest

from core.domain.clocks import LARGEST_JUMP_US as DAY
from core.domain.clocks import ClockState, Doubt, Observation, Reading, judge

NOW = 20_000 * DAY
HOUR = DAY // 24
BOOT, OTHER_BOOT = "a", "b"
JUMPED, UNKNOWN_GAP, BEHIND_LEDGER = Doubt


def judged(
    *, wall: int, passed: int, boot: str = BOOT, last_boot: str = BOOT, ledger: int = 0, known: int = 0
) -> ClockState:
    """Judge a clock that moved by `wall` while `passed` passed; the ledger is ahead of the first reading."""
    last = Observation(Reading(NOW, 5 * DAY, last_boot), NOW + known)
    uptime = 5 * DAY + passed if boot == last_boot else passed
    return judge(Reading(NOW + wall, uptime, boot), last, NOW + ledger)


@pytest.mark.parametrize(
    ("wall", "passed", "doubt"),
    [
        (HOUR, HOUR, None),
        (40 * DAY, 40 * DAY, None),  # Giro was off, and the machine was not
        (40 * DAY, 0, JUMPED),
        (-40 * DAY, 0, JUMPED),
        (DAY, 0, None),
        (DAY + 1, 0, JUMPED),
        (-DAY, 0, None),
        (-DAY - 1, 0, JUMPED),
        (0, 2 * DAY, JUMPED),  # the clock stood still
    ],
)
def test_a_clock_that_moved_by_another_amount_than_the_monotonic_one_is_in_doubt(
    wall: int, passed: int, doubt: Doubt | None
) -> None:
    found = judged(wall=wall, passed=passed)
    assert (found.doubt, found.difference) == (doubt, wall - passed)


@pytest.mark.parametrize(
    ("wall", "doubt"),
    [(HOUR, None), (DAY, None), (3 * DAY, UNKNOWN_GAP), (40 * DAY, UNKNOWN_GAP), (-3 * DAY, UNKNOWN_GAP)],
)
@pytest.mark.parametrize(("boot", "last_boot"), [(OTHER_BOOT, BOOT), ("", ""), ("", BOOT)])
def test_a_gap_of_more_than_a_day_is_in_doubt_if_the_machine_was_started_meanwhile(
    wall: int, doubt: Doubt | None, boot: str, last_boot: str
) -> None:
    found = judged(wall=wall, passed=HOUR, boot=boot, last_boot=last_boot)
    assert (found.doubt, found.difference) == (doubt, wall)


def test_an_uptime_that_went_back_counts_as_another_start() -> None:
    assert judged(wall=2 * DAY, passed=-HOUR).doubt is UNKNOWN_GAP


@pytest.mark.parametrize(
    ("ledger", "known", "doubt"),
    [
        (HOUR, 0, None),
        (2 * DAY, 0, BEHIND_LEDGER),
        (2 * DAY, 2 * DAY, None),  # an operator has seen it
        (2 * DAY + 1, 2 * DAY, BEHIND_LEDGER),
    ],
)
def test_a_ledger_with_later_times_is_in_doubt_once(ledger: int, known: int, doubt: Doubt | None) -> None:
    assert judged(wall=0, passed=0, ledger=ledger, known=known).doubt is doubt


@pytest.mark.parametrize(("ledger", "doubt"), [(-40 * DAY, None), (0, None), (2 * DAY, BEHIND_LEDGER)])
def test_the_first_observation_is_trusted_unless_the_ledger_is_later(ledger: int, doubt: Doubt | None) -> None:
    found = judge(Reading(NOW, HOUR, BOOT), None, NOW + ledger)
    assert (found.doubt, found.difference) == (doubt, -ledger if doubt else 0)
