"""The arithmetic of a comparison: medians and spread of measurements, ratios, and whether an aim is met."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one measurement, in the order of the rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        """Return the median, and the smallest and largest value."""
        return f"{shown(self.median)} ({shown(min(self.values))}–{shown(max(self.values))})"


@dataclass(frozen=True, slots=True)
class Aim:
    """The aim of a ratio or figure: at least `bound`, or at most."""

    bound: float
    at_least: bool = True

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


RATIOS: Mapping[str, tuple[str, str, Aim]] = {
    "settle: project ÷ raw": ("giro settle", "raw settle", Aim(0.85)),
    "bulk ÷ raw settle": ("giro bulk", "raw settle", Aim(0.75)),
    "bulk ÷ tigerbeetle": ("giro bulk", "tigerbeetle", Aim(0.8)),
    "single ÷ brief": ("giro single", "brief", Aim(12)),
    "single ÷ celery": ("giro single", "celery", Aim(25)),
    "single ÷ postgres, uniform": ("giro single", "postgres", Aim(1.7)),
    "single ÷ postgres, hot": ("giro single, hot", "postgres, hot", Aim(2)),
    "single: hot ÷ uniform": ("giro single, hot", "giro single", Aim(0.9)),
    "bulk: hot ÷ uniform": ("giro bulk, hot", "giro bulk", Aim(0.9)),
    "bulk: large ÷ empty": ("bulk, large ledger", "bulk, empty ledger", Aim(0.8)),
    "single: large ÷ empty": ("single, large ledger", "single, empty ledger", Aim(0.8)),
    "poll by id: large ÷ small": ("poll by id, large", "poll by id, small", Aim(1.3, at_least=False)),
    "balance: large ÷ small": ("balance, large", "balance, small", Aim(1.3, at_least=False)),
    "page at depth: large ÷ small": ("page at depth, large", "page at depth, small", Aim(1.3, at_least=False)),
    "POST p99: with ÷ without backlog": (
        "POST while a backlog drains, p99",
        "POST without a backlog, p99",
        Aim(2.5, at_least=False),
    ),
    "API memory: late ÷ early": ("API memory, late", "API memory, early", Aim(1.2, at_least=False)),
    "worker memory: late ÷ early": ("worker memory, late", "worker memory, early", Aim(1.2, at_least=False)),
}
"""The ratios: their two measurements, and their aim."""

FIGURES: Mapping[str, Aim] = {
    "latency at 10/s, median": Aim(15, at_least=False),
    "latency at 10/s, p99": Aim(40, at_least=False),
    "latency at 1000/s, p99": Aim(60, at_least=False),
}
"""The aims of single figures, in their own unit."""


@dataclass(slots=True)
class Results:
    """All measurements by name: the unit, and a value for each round."""

    units: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float, unit: str) -> None:
        """Record the value of one round."""
        self.units[name] = unit
        self.values.setdefault(name, []).append(value)

    def series(self, name: str) -> Series:
        return Series(tuple(self.values[name]))

    def ratio(self, over: str, under: str) -> Series | None:
        """Divide round by round, because noise of the machine affects a whole round; None if one is missing."""
        if over not in self.values or under not in self.values:
            return None
        return Series(tuple(one / other for one, other in zip(self.values[over], self.values[under], strict=False)))

    def judged(self) -> list[tuple[str, Series, Aim]]:
        """Return every measured ratio and figure that has an aim."""
        ratios = [(name, self.ratio(over, under), aim) for name, (over, under, aim) in RATIOS.items()]
        figures = [(name, self.series(name) if name in self.values else None, aim) for name, aim in FIGURES.items()]
        return [(name, series, aim) for name, series, aim in (*ratios, *figures) if series is not None]


def verdict(series: Series, aim: Aim) -> str:
    """Compare the median with the aim."""
    return "met" if aim.is_met(series.median) else "missed"


def tables(results: Results) -> str:
    """Return the measurements and the ratios as two tables in Markdown."""
    measured = [(name, str(results.series(name)), results.units[name]) for name in results.values]
    judged = [(name, str(series), str(aim), verdict(series, aim)) for name, series, aim in results.judged()]
    return "\n\n".join(
        (
            table(("measured", "median (min–max)", "unit"), measured),
            table(("compared", "median (min–max)", "aim", ""), judged),
        )
    )


def shown(value: float) -> str:
    """Format a number with three significant digits and separated thousands."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
