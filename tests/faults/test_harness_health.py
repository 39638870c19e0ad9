"""The judge of health itself: it accepts what is true, and finds each wrong answer in invented histories."""

from dataclasses import replace

import pytest

from api.schemas.health import Health
from tests.faults.harness.health import PROMISES, Answer, Span, detections, tells_the_truth
from tests.faults.harness.plan import LASTING, QUIET_SECONDS, make_lasting_plan

BEGAN, ENDED = 100.0, 108.0
SEEN_AFTER = 2
QUEUE, DISK, SKEW = "break the queue: full", "fill the disk", "skew the clock: 7200000"


def answers(during: Health, *, seen_after: float = SEEN_AFTER, healed_after: float = 3) -> list[Answer]:
    """One answer a second: ok, then `during` from some seconds after the fault began until some after it ended."""
    found = []
    for second in range(80, 140):
        on = BEGAN + seen_after <= second < ENDED + healed_after
        status = during if on else Health.OK
        found.append(Answer(second, second + 0.1, status, status is not Health.UNAVAILABLE))
    return found


def at(history: list[Answer], second: int, **said: object) -> list[Answer]:
    """The same answers, with one changed."""
    return [replace(answer, **said) if answer.asked_at == second else answer for answer in history]  # type: ignore[arg-type]


def queue_fault(name: str = QUEUE) -> list[Span]:
    return [Span("kill", 60, 60), Span(name, BEGAN, ENDED)]


@pytest.mark.parametrize("name", PROMISES)
def test_prompt_answers_about_each_fault_are_right_and_measured(name: str) -> None:
    least, _ = PROMISES[name]
    assert tells_the_truth(answers(least), queue_fault(name)) == []
    found = detections(answers(least), queue_fault(name))
    assert list(found) == [name]
    assert found[name] == [pytest.approx(SEEN_AFTER + 0.1)]


@pytest.mark.parametrize(("name", "milder"), [(QUEUE, Health.OK), (DISK, Health.OK), (DISK, Health.DEGRADED)])
def test_fault_that_health_does_not_name_is_found(name: str, milder: Health) -> None:
    found = tells_the_truth(answers(milder), queue_fault(name))
    assert found
    assert all(name in finding for finding in found)


def test_fault_that_health_names_too_late_or_forgets_is_found() -> None:
    assert tells_the_truth(answers(Health.DEGRADED, seen_after=6), queue_fault()) == []
    assert tells_the_truth(answers(Health.DEGRADED, seen_after=7.5), queue_fault())
    assert tells_the_truth(at(answers(Health.DEGRADED), 107, status=Health.OK), queue_fault())


def test_readiness_that_contradicts_an_unusable_disk_is_found() -> None:
    assert tells_the_truth(at(answers(Health.UNAVAILABLE), 107, ready=True), queue_fault(DISK))


def test_silence_counts_as_unavailable_and_is_no_answer_about_a_queue() -> None:
    silent = {"status": None, "ready": False}
    assert tells_the_truth(at(answers(Health.UNAVAILABLE), 107, **silent), queue_fault(DISK)) == []
    assert tells_the_truth(at(answers(Health.DEGRADED), 107, **silent), queue_fault())


@pytest.mark.parametrize(
    "said",
    [
        {"status": Health.DEGRADED},
        {"status": Health.UNAVAILABLE, "ready": False},
        {"status": None, "ready": False},
        {"ready": False},
    ],
)
def test_alarm_long_after_every_fault_is_found(said: dict[str, object]) -> None:
    assert tells_the_truth(at(answers(Health.DEGRADED), 118, **said), queue_fault()) == []
    assert tells_the_truth(at(answers(Health.DEGRADED), 120, **said), queue_fault())
    assert tells_the_truth(at(answers(Health.DEGRADED), 90, **said), queue_fault())


def test_process_that_is_away_for_some_seconds_after_it_was_killed_is_no_false_alarm() -> None:
    away = at(answers(Health.DEGRADED), 125, status=Health.DEGRADED, lost=("jobs",))
    assert tells_the_truth(away, queue_fault()) == []
    assert tells_the_truth(away, [Span("kill", 60, 60)])


def test_transfer_that_waits_long_must_be_named_whatever_its_cause() -> None:
    waits = at(answers(Health.DEGRADED), 130, waited=16.0)
    assert tells_the_truth(waits, queue_fault())
    assert tells_the_truth(at(waits, 130, status=Health.DEGRADED), queue_fault()) == []
    assert tells_the_truth(at(waits, 130, waited=14.0), queue_fault()) == []
    assert tells_the_truth(waits, [*queue_fault(), Span(SKEW, 129, 131)]) == []


def test_api_that_starts_again_after_a_fault_may_be_silent_about_a_transfer_that_waits() -> None:
    silent = at(answers(Health.DEGRADED), 130, waited=16.0, status=None, ready=False)
    assert any("waited" in finding for finding in tells_the_truth(silent, queue_fault()))
    assert tells_the_truth(silent, [*queue_fault(), Span("kill everything", 125, 125)]) == []


def test_fault_that_another_one_may_have_ended_is_not_expected_if_it_is_of_the_queue() -> None:
    kill = Span("kill", 104, 104)
    assert tells_the_truth(answers(Health.OK), [*queue_fault(), kill]) == []
    assert tells_the_truth(answers(Health.OK), [*queue_fault(DISK), kill])


def test_nothing_is_expected_of_health_about_a_fault_without_a_promise() -> None:
    assert tells_the_truth(answers(Health.OK), queue_fault("failpoint: accept.before_commit=delay:300")) == []


def test_fault_under_which_health_was_not_ok_before_is_not_measured() -> None:
    history = at(answers(Health.DEGRADED), 99, status=Health.DEGRADED)
    assert detections(history, queue_fault()) == {}


def test_lasting_plan_has_every_fault_and_a_quiet_time_before_each() -> None:
    plan = make_lasting_plan(1, len(LASTING))
    assert {fault.name for fault in plan} == set(PROMISES)
    assert all(fault.seconds > PROMISES[fault.name][1] for fault in plan)
    ends = [0.0, *(fault.at + fault.seconds for fault in plan)]
    assert all(fault.at >= before + QUIET_SECONDS for fault, before in zip(plan, ends, strict=False))
    assert make_lasting_plan(1, 3) != make_lasting_plan(2, 3)
