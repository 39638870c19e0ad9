"""The kinds of panels that Giro's dashboards are made of, and how each is drawn with Grafana's own builders."""

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
"""The data source as deploy/grafana/provisioning makes it."""

type Steps = tuple[tuple[float | None, str], ...]
"""Colours from the least value up, each from its value on; the first has none."""

type Meanings = Mapping[str, tuple[str, str]]
"""What single values are called, and in which colour."""

NEUTRAL: Steps = ((None, "blue"),)
UP_OR_DOWN: Meanings = {"0": ("down", "red"), "1": ("up", "green")}


def rising(warning: float, bad: float) -> Steps:
    """Green, yellow from `warning` on, red from `bad` on."""
    return ((None, "green"), (warning, "yellow"), (bad, "red"))


def falling(warning: float, bad: float) -> Steps:
    """Red, yellow from `bad` on, green from `warning` on."""
    return ((None, "red"), (bad, "yellow"), (warning, "green"))


def none_allowed(least: float = 1) -> Steps:
    """Green, and red from the `least` value that must not be."""
    return ((None, "green"), (least, "red"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing(ABC):
    """One panel: what it is called, asks, shows and means, and where its numbers come from."""

    title: str
    question: str
    """What somebody who looks at it wants to know; docs/reference/dashboards.md lists these."""
    shows: str
    bad: str
    """What a bad value means, and what to do then."""
    unit: str
    queries: Mapping[str, str]
    """Expressions by what their lines are called: words, or labels as `{{code}}`."""

    @property
    def description(self) -> str:
        """What the panel says of itself when it is pointed at."""
        return f"{self.shows}\n\n**When it is bad:** {self.bad}"

    @abstractmethod
    def draw(self, number: int, width: int) -> Builder[Panel]:
        """Build the panel under a number of its own, some of the grid's 24 columns wide."""

    def targets(self) -> list[prometheus.Dataquery]:
        """The queries as Grafana sends them: for values over time."""
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
    """The value of now in large figures, coloured by what it means.

    Of now, not the last one of the hour that is shown: what is gone must not go on looking well.
    """

    steps: Steps = NEUTRAL
    meanings: Meanings = field(default_factory=dict)
    decimals: int | None = None
    names_only: bool = False
    """Whether it shows what its lines are called, and not their values."""
    absent: str = "no data"
    """What it says when there is no value at all."""

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
    """Lines over time. With `steps`, dashed lines show where it becomes bad."""

    steps: Steps = ()
    least: float | None = 0
    """Where the axis begins; None lets it begin at the least value."""
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
    """How many observations fell into each bucket of a histogram, over time."""

    def draw(self, number: int, width: int) -> Builder[Panel]:
        panel = _described(heatmap.Panel(), self, number, width).height(8).calculate(False)
        panel.targets([target.format(PromQueryFormat.HEATMAP) for target in self.targets()])
        colours = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
        panel.color(colours.fill("dark-orange").exponent(0.5))
        panel.y_axis(heatmap.YAxisConfig().unit(self.unit).axis_placement(common.AxisPlacement.LEFT))
        panel.cell_values(heatmap.CellValues().unit(units.Short).decimals(0))
        return panel.filter_values(heatmap.FilterValueRange().le(1e-9))  # an empty bucket is no cell


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
