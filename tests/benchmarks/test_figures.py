"""The arithmetic of the benchmarks' comparisons."""

import pytest

from tests.benchmarks.figures import Aim, Results, Series, shown, tables, verdict


def test_series_shows_median_and_spread() -> None:
    assert Series((30.0, 10.0, 20.0)).median == 20
    assert str(Series((3000.0, 1000.0, 2000.0))) == "2,000 (1,000–3,000)"


@pytest.mark.parametrize(
    ("aim", "value", "met"),
    [
        (Aim(0.85), 0.85, True),
        (Aim(0.85), 0.84, False),
        (Aim(40, at_least=False), 40, True),
        (Aim(40, at_least=False), 41, False),
    ],
)
def test_aim_is_met_at_its_bound(aim: Aim, value: float, met: bool) -> None:
    assert verdict(Series((value,)), aim) == ("met" if met else "missed")


def test_ratio_is_computed_per_round() -> None:
    results = Results()
    for project, raw in ((90, 100), (40, 50), (10, 10)):  # the ratio of the medians would be different
        results.add("giro settle", project, "transfers/s")
        results.add("raw settle", raw, "transfers/s")
    ratio = results.ratio("giro settle", "raw settle")
    assert ratio is not None
    assert ratio.values == (0.9, 0.8, 1.0)
    assert ratio.median == 0.9


def test_missing_measurement_has_no_verdict() -> None:
    results = Results()
    results.add("giro single", 5000, "transfers/s")
    assert results.judged() == []
    results.add("brief", 500, "transfers/s")
    results.add("latency at 10/s, median", 16, "ms")
    assert [(name, verdict(series, aim)) for name, series, aim in results.judged()] == [
        ("single ÷ brief", "missed"),
        ("latency at 10/s, median", "missed"),
    ]
    assert "| single ÷ brief | 10 (10–10) | ≥ 12 | missed |" in tables(results)


@pytest.mark.parametrize(
    ("value", "text"), [(0.9349, "0.935"), (12.34, "12.3"), (123.4, "123"), (56789.0, "56,789"), (7.0, "7")]
)
def test_numbers_are_shown_with_significant_digits(value: float, text: str) -> None:
    assert shown(value) == text
