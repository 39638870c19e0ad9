"""Write Giro's dashboards as JSON for Grafana, and the page that lists them: `make dashboards`."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import jobs, service, transfers
from deploy.grafana.boards import Board, draw

HOME = Path(__file__).parents[2]
FOLDER = HOME / "deploy" / "grafana" / "dashboards"
PAGE = HOME / "docs" / "reference" / "dashboards.md"

BOARDS = (transfers.BOARD, service.BOARD, jobs.BOARD)

HEAD = """\
# Dashboards

Grafana has three dashboards in the folder *Giro*. Point at the *i* next to a panel's title to read what it shows, what
a bad value means, and what to do then. The dashboards link to each other and keep the selected time range. Their
numbers are [metrics](metrics.md).

`make dashboards` writes this page and the JSON in `deploy/grafana/dashboards` from the tables in `deploy/grafana`;
`make monitoring` checks each expression against a running Giro and a real Prometheus.
"""


def as_json(board: Board) -> str:
    """Return the text of a dashboard's file."""
    return json.dumps(draw(board), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def as_page() -> str:
    """Return the page of the documentation, with every panel and the question that it answers."""
    return "\n".join([HEAD, *(line for board in BOARDS for line in _section(board))]).rstrip("\n") + "\n"


def _section(board: Board) -> Iterator[str]:
    yield from (f"## {board.title.removeprefix('Giro: ')}", "", f"{board.about} (`{board.uid}`)", "")
    yield from ("| panel | question |", "|---|---|")
    yield from (f"| {panel.title} | {panel.question} |" for panel in board.panels())
    yield ""


def texts() -> dict[Path, str]:
    """Return the text of every generated file, by path."""
    return {FOLDER / f"{board.name}.json": as_json(board) for board in BOARDS} | {PAGE: as_page()}


def main() -> int:
    """Write all files and return the exit status."""
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
