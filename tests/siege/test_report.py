"""The tables of a siege."""

from io import StringIO

import pytest
from rich.console import Console

from tests.siege.aims import judge
from tests.siege.figures import Attacker, Kind, Phase
from tests.siege.report import show


def phase(name: str, p99: float, attacker: Attacker | None = None, **failures: int) -> Phase:
    return Phase(name, {"accounts": Kind(60, 4, p99, p99, failures)}, attacker, 200, 0)


def shown(idle: Phase, *phases: Phase) -> str:
    out = StringIO()
    show(Console(file=out, width=200), [idle, *phases], idle, judge([idle, *phases], idle))
    return out.getvalue()


def test_tables_show_times_beside_the_idle_ones_failures_answers_and_missed_aims() -> None:
    attacker = Attacker(seconds=10, cpu_seconds=1, answers={"200": 7, "429": 93})
    text = shown(phase("idle", 8), phase("readers", 800, attacker, refused=2))
    for words in ("4 / 800 / 800", "100.0 × idle", "2/60 refused", "429: 93, 200: 7", "10%", "MISSED"):
        assert words in text


@pytest.mark.parametrize(("idle_ms", "warned"), [(100, False), (101, True)])
def test_a_busy_machine_is_named(idle_ms: float, warned: bool) -> None:
    assert ("The machine is busy" in shown(phase("idle", idle_ms))) is warned
