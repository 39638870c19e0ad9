"""The kinds of panels in Giro's dashboards, drawn with Grafana's own builders."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboard_builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    FieldColorModeId,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")
"""The data source that deploy/grafana/provisioning defines."""

type Steps = tuple[tuple[float | None, str], ...]
"""Colours in order of their values. Each applies from its value on; the first has no value."""

type Meanings = Mapping[str, tuple[str, str]]
"""Names and colours of single values."""

NEUTRAL: Steps = ((None, "blue"),)
UP_OR_DOWN: Meanings = {"0": ("down", "red"), "1": ("up", "green")}


def rising(warning: float, bad: float) -> Steps:
    """Return steps from green to yellow at `warning` and red at `bad`."""
    return ((None, "green"), (warning, "yellow"), (bad, "red"))


def falling(warning: float, bad: float) -> Steps:
    """Return steps from red to yellow at `bad` and green at `warning`."""
    return ((None, "red"), (bad, "yellow"), (warning, "green"))


def none_allowed(least: float = 1) -> Steps:
    """Return steps from green to red at `least`, the smallest bad value."""
    return ((None, "green"), (least, "red"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing(ABC):
    """One panel: its title, question, meaning and queries."""

    title: str
    question: str
    """The question that it answers. docs/reference/dashboards.md lists them."""
    shows: str
    bad: str
    """The meaning of a bad value, and what to do then."""
    unit: str
    queries: Mapping[str, str]
    """Expressions by the names of their lines, which are words or labels like `{{code}}`."""

    @property
    def description(self) -> str:
        """The text that Grafana shows for the panel's *i*."""
        return f"{self.shows}\n\n**When it is bad:** {self.bad}"

    @abstractmethod
    def draw(self, number: int, width: int) -> Builder[Panel]:
        """Build the panel with an id, and a width in columns of the grid, which has 24."""

    def targets(self) -> list[prometheus.Dataquery]:
        """Return the queries that Grafana sends, for values over time."""
        return [
            prometheus.Dataquery()
            .ref_id(chr(ord("A") + place))
            .datasource(PROMETHEUS)
            .expr(expression)
            .legend_format(legend)
            .range()
            for place, (legend, expression) in enumerate(self.queries.items())
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat(Drawing):
    """The current value in large figures, coloured by its meaning.

    It is not the last value of the time range: the value of a process that is gone must not keep looking good.
    """

    steps: Steps = NEUTRAL
    meanings: Meanings = field(default_factory=dict)
    decimals: int | None = None
    names_only: bool = False
    """Whether it shows the names of its lines instead of their values."""
    absent: str = "no data"
    """The text that it shows if there is no value."""

    def draw(self, number: int, width: int) -> Builder[Panel]:
        newest = common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
        panel = (
            _described(stat.Panel(), self, number, width)
            .targets([target.instant() for target in self.targets()])
            .height(4)
            .unit(self.unit)
            .thresholds(_thresholds(self.steps))
            .no_value(self.absent)
            .reduce_options(newest)
            .color_mode(common.BigValueColorMode.VALUE)
            .graph_mode(common.BigValueGraphMode.NONE)
            .text_mode(common.BigValueTextMode.NAME if self.names_only else common.BigValueTextMode.AUTO)
        )
        if self.meanings:
            panel.mappings([_value_map(self.meanings)])
        return panel if self.decimals is None else panel.decimals(self.decimals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph(Drawing):
    """Lines over time. With `steps`, dashed lines show the bad values."""

    steps: Steps = ()
    least: float | None = 0
    """Start of the axis. If None, it starts at the smallest value."""
    stacked: bool = False

    def draw(self, number: int, width: int) -> Builder[Panel]:
        legend = common_builders.VizLegendOptions()
        legend.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM).show_legend(True)
        panel = (
            _described(timeseries.Panel(), self, number, width)
            .height(8)
            .unit(self.unit)
            .legend(legend.calcs([]))
            .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
            .color_scheme(dashboard_builders.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
            .fill_opacity(40 if self.stacked else 10)
            .show_points(common.VisibilityMode.NEVER)
        )
        if self.least is not None:
            panel.min(self.least)
        if self.stacked:
            panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
        if self.steps:
            panel.thresholds(_thresholds(self.steps))
            dashed = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
            panel.thresholds_style(dashed)
        return panel


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap(Drawing):
    """The number of observations in each bucket of a histogram, over time."""

    def draw(self, number: int, width: int) -> Builder[Panel]:
        panel = _described(heatmap.Panel(), self, number, width).height(8).calculate(False)
        panel.targets([target.format(PromQueryFormat.HEATMAP) for target in self.targets()])
        colours = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
        panel.color(colours.fill("dark-orange").exponent(0.5))
        panel.y_axis(heatmap.YAxisConfig().unit(self.unit).axis_placement(common.AxisPlacement.LEFT))
        panel.cell_values(heatmap.CellValues().unit(units.Short).decimals(0))
        return panel.filter_values(heatmap.FilterValueRange().le(1e-9))  # empty buckets are not drawn


def _described[P: (stat.Panel, timeseries.Panel, heatmap.Panel)](
    panel: P, drawing: Drawing, number: int, width: int
) -> P:
    panel.id(number).title(drawing.title).description(drawing.description).span(width)
    panel.datasource(PROMETHEUS).targets(list(drawing.targets()))
    return panel


def _thresholds(steps: Steps) -> dashboard_builders.ThresholdsConfig:
    thresholds = [Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard_builders.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(thresholds)


def _value_map(meanings: Meanings) -> ValueMap:
    results = enumerate(meanings.items())
    return ValueMap(
        {value: ValueMappingResult(text=text, color=colour, index=place) for place, (value, (text, colour)) in results}
    )
