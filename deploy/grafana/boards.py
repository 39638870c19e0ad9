"""Giro's dashboards: a dashboard has sections, a section has lines, and the panels of a line have the same width."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from deploy.grafana.panels import PROMETHEUS, Drawing

COLUMNS = 24
TAG = "giro"
"""All dashboards have this tag, and link to all dashboards with it."""


@dataclass(frozen=True, slots=True)
class Section:
    """Panels that answer one question together."""

    title: str
    lines: tuple[tuple[Drawing, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One dashboard."""

    name: str
    """The name of its file and the last part of its uid."""
    title: str
    about: str
    sections: tuple[Section, ...]
    by_process: bool = False
    """Whether the user can choose processes. Then its expressions contain `$process`."""

    @property
    def uid(self) -> str:
        """The part of its URL that never changes."""
        return f"giro-{self.name}"

    def panels(self) -> Iterator[Drawing]:
        """Yield all panels, line by line from the top left."""
        for section in self.sections:
            for line in section.lines:
                yield from line


def draw(board: Board) -> Dashboard:
    """Build a dashboard. It shows the last hour and refreshes every ten seconds."""
    canvas = (
        builders.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags([TAG])
        .timezone("browser")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("10s")
        .link(_link_to_the_others())
    )
    if board.by_process:
        canvas.with_variable(_processes())
    numbers = count(1)
    for section in board.sections:
        canvas.with_row(builders.Row(section.title).id(next(numbers)))
        for line in section.lines:
            for panel in line:
                canvas.with_panel(panel.draw(next(numbers), COLUMNS // len(line)))
    return canvas.build()


def _link_to_the_others() -> builders.DashboardLink:
    link = builders.DashboardLink("Giro").type(DashboardLinkType.DASHBOARDS).tags([TAG]).icon("external link")
    return link.as_dropdown(False).include_vars(False).keep_time(True).target_blank(False).tooltip("").url("")


def _processes() -> builders.QueryVariable:
    everything = VariableOption(text="All", value="$__all", selected=True)
    names = builders.QueryVariable("process").label("Process").datasource(PROMETHEUS)
    names.query("label_values(giro_build_info, process)").refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    return names.sort(VariableSort.ALPHABETICAL_ASC).multi(True).include_all(True).all_value(".+").current(everything)
