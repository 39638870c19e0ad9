"""A dashboard as SVG, from its own table and a real Prometheus, in the colours that Grafana would use."""

import itertools
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from deploy.grafana.boards import Board
from deploy.grafana.panels import Drawing, Graph, Stat
from tests.monitoring.prometheus import Prometheus

SHOWN_SECONDS = 100
STEP_SECONDS = 2
VARIABLES = {"$__rate_interval": "12s", "$__interval": "2s", "$process": ".+"}
MOST_LINES = 4
"""Lines of a graph at most: those with the largest values. Lines at 0 are left out."""

WIDTH, GAP, EDGE = 1200, 12, 20
HEAD = 64
STAT_HEIGHT, GRAPH_HEIGHT = 92, 236
COLOURS = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c", "blue": "#6ea6ff"}
PALETTE = ("#73bf69", "#f2cc0c", "#6ea6ff", "#ff9830", "#f2495c", "#b877d9", "#5ac8c8")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
GROUND, PANEL, LINE, TEXT, SOFT = "#111217", "#1a1c22", "#2c3038", "#dfe3ea", "#9aa3b0"

type Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Box:
    """Where a panel is."""

    x: float
    y: float
    width: float
    height: float


def picture(board: Board, lines: Sequence[Sequence[str]], prometheus: Prometheus) -> str:
    """Draw the named panels of a dashboard, line by line."""
    panels = {panel.title: panel for panel in board.panels()}
    until = time.time()
    parts, y = [], float(HEAD)
    for titles in lines:
        drawn = [panels[title] for title in titles]
        height = STAT_HEIGHT if isinstance(drawn[0], Stat) else GRAPH_HEIGHT
        shares = [1.5 if isinstance(panel, Stat) and any(panel.queries) else 1 for panel in drawn]
        unit = (WIDTH - 2 * EDGE + GAP) / sum(shares)
        x = float(EDGE)
        for panel, share in zip(drawn, shares, strict=True):
            box = Box(x, y, share * unit - GAP, height)
            parts += [*_frame(panel, box), *_inside(panel, box, prometheus, until)]
            x += share * unit
        y += height + GAP
    height = y - GAP + EDGE
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" font-family="{escape(FONT)}">',
            f"<title>{escape(board.title)}</title>",
            f'<rect width="{WIDTH}" height="{height:g}" rx="8" fill="{GROUND}"/>',
            _text(EDGE + 2, 40, board.title, size=20, weight=600),
            _text(WIDTH - EDGE - 2, 40, f"last {SHOWN_SECONDS} seconds", size=13, fill=SOFT, anchor="end"),
            *parts,
            "</svg>\n",
        ]
    )


def _frame(panel: Drawing, box: Box) -> Iterator[str]:
    yield (
        f'<rect x="{box.x:.1f}" y="{box.y:g}" width="{box.width:.1f}" height="{box.height}" rx="5" fill="{PANEL}"'
        f' stroke="{LINE}"/>'
    )
    yield _text(box.x + 12, box.y + 22, panel.title, size=13, weight=600)


def _inside(panel: Drawing, box: Box, prometheus: Prometheus, until: float) -> Iterator[str]:
    if isinstance(panel, Stat):
        yield from _stat(panel, box, _now(panel, prometheus, until))
    elif isinstance(panel, Graph):
        yield from _graph(panel, box, _range(panel, prometheus, until), until)


def _text(
    x: float, y: float, text: str, *, size: float, fill: str = TEXT, weight: int = 400, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{fill}" font-weight="{weight}"'
        f' text-anchor="{anchor}">{escape(text)}</text>'
    )


# --- values ---


def _as_sent(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def _legend(pattern: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda name: labels.get(name[1], ""), pattern).strip()


def _results(prometheus: Prometheus, path: str, **question: Any) -> list[dict[str, Any]]:
    answer = prometheus.client.get(path, params=question).json()
    assert answer["status"] == "success", answer
    results: list[dict[str, Any]] = answer["data"]["result"]
    return results


def _now(panel: Drawing, prometheus: Prometheus, at: float) -> dict[str, float]:
    return {
        _legend(legend, result["metric"]): float(result["value"][1])
        for legend, expression in panel.queries.items()
        for result in _results(prometheus, "/api/v1/query", query=_as_sent(expression), time=at)
    }


def _range(panel: Drawing, prometheus: Prometheus, until: float) -> dict[str, Points]:
    question = {"start": until - SHOWN_SECONDS, "end": until, "step": STEP_SECONDS}
    found: dict[str, Points] = {}
    for legend, expression in panel.queries.items():
        for result in _results(prometheus, "/api/v1/query_range", query=_as_sent(expression), **question):
            points = [(at, float(value)) for at, value in result["values"]]
            if points := [(at, value) for at, value in points if not math.isnan(value)]:
                found[_legend(legend, result["metric"])] = points
    return found


# --- single values ---


def _stat(panel: Stat, box: Box, values: dict[str, float]) -> Iterator[str]:
    if not values:
        values = {"": math.nan}
    width = (box.width - 24) / len(values)
    for place, (name, value) in enumerate(sorted(values.items())):
        text, colour = _said(panel, value)
        x = box.x + 12 + place * width
        if len(values) == 1:
            yield _text(x, box.y + 66, text, size=28, fill=colour, weight=600)
        else:
            yield _text(x, box.y + 56, text, size=16, fill=colour, weight=600)
            yield _text(x, box.y + 76, _shortened(name, width / 5.2), size=9.5, fill=SOFT)


def _shortened(text: str, length: float) -> str:
    return text if len(text) <= length else f"{text[: int(length) - 1]}…"


def _said(panel: Stat, value: float) -> tuple[str, str]:
    """Return the text of a value and its colour, as the panel defines them."""
    if math.isnan(value):
        return panel.absent, SOFT
    if (meaning := panel.meanings.get(f"{value:g}")) is not None:
        return meaning[0], COLOURS[meaning[1]]
    colour = [colour for least, colour in panel.steps if least is None or value >= least][-1]
    return _shown(value, panel.unit), COLOURS[colour]


def _shown(value: float, unit: str) -> str:
    """Return a value with its unit, in three digits."""
    match unit:
        case "s":
            for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
                if abs(value) * factor >= 1:
                    return f"{value * factor:.3g} {name}"
            return "0 s"
        case "decbytes":
            for factor, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
                if abs(value) >= factor:
                    return f"{value / factor:.3g} {name}"
            return f"{value:.3g} B"
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "ops" | "reqps":
            return f"{value:.3g} /s"
        case _:
            return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# --- graphs ---


def _graph(panel: Graph, box: Box, series: dict[str, Points], until: float) -> Iterator[str]:
    tops = {name: max(value for _, value in points) for name, points in series.items()}
    names = sorted(sorted(filter(tops.get, tops), key=lambda name: -tops[name])[:MOST_LINES])
    colours = dict(zip(names, PALETTE, strict=False))
    legend = list(_legend_lines(names, box.width - 24, left_out=len(tops) - len(names)))
    inner = Box(box.x + 62, box.y + 38, box.width - 92, box.height - 72 - 16 * len(legend))
    top, step = _scale(max((value for name in names for _, value in series[name]), default=1))
    for tick in range(round(top / step) + 1):
        y = inner.y + inner.height * (1 - tick * step / top)
        yield f'<path d="M{inner.x:.1f} {y:.1f}h{inner.width:.1f}" stroke="{LINE}"/>'
        yield _text(inner.x - 8, y + 4, _shown(tick * step, panel.unit), size=11, fill=SOFT, anchor="end")
    for back in range(0, SHOWN_SECONDS + 1, 25):
        x = inner.x + inner.width * (1 - back / SHOWN_SECONDS)
        label = "now" if back == 0 else f"−{back} s"
        yield _text(x, inner.y + inner.height + 17, label, size=10.5, fill=SOFT, anchor="middle")
    for name in names:
        for line in _unbroken(series[name]):
            path = " ".join(
                f"{inner.x + inner.width * (1 - (until - at) / SHOWN_SECONDS):.1f}"
                f" {inner.y + inner.height * (1 - value / top):.1f}"
                for at, value in line
            )
            yield (
                f'<path d="M{path}" fill="none" stroke="{colours[name]}" stroke-width="1.6" stroke-linejoin="round"/>'
            )
    for number, line in enumerate(legend):
        y = box.y + box.height - 14 - 16 * (len(legend) - 1 - number)
        for x, name in line:
            if name in colours:
                mark = f'x="{box.x + 12 + x:.1f}" y="{y - 5:.1f}" width="12" height="3" rx="1"'
                yield f'<rect {mark} fill="{colours[name]}"/>'
            yield _text(box.x + 12 + x + (17 if name in colours else 0), y, name, size=11, fill=SOFT)


def _unbroken(points: Points) -> Iterator[Points]:
    """Yield the parts of a line between its gaps."""
    part = points[:1]
    for before, point in itertools.pairwise(points):
        if point[0] - before[0] > 1.5 * STEP_SECONDS:
            yield part
            part = []
        part.append(point)
    yield part


def _legend_lines(names: list[str], width: float, *, left_out: int) -> Iterator[list[tuple[float, str]]]:
    """Place the names of lines next to each other, as many as fit."""
    line: list[tuple[float, str]] = []
    x = 0.0
    for name in [*names, *([f"and {left_out} more"] if left_out else [])]:
        needed = 17 + 6.9 * len(name) + 12
        if line and x + needed > width:
            yield line
            line, x = [], 0.0
        line.append((x, name))
        x += needed
    if line:
        yield line


def _scale(largest: float) -> tuple[float, float]:
    """Return the end of an axis and the step of its grid, in round numbers."""
    if largest <= 0:
        return 1, 0.5
    rough = largest / 3
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return step * math.ceil(largest / step * 1.0001), step
