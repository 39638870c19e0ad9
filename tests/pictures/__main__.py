"""Make every picture again: `make pictures`. It takes some three minutes."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.grafana import service, transfers
from tests.flows.stack import Stack
from tests.monitoring.prometheus import Prometheus
from tests.pictures import bank, dashboard, terminal

HOME = Path(__file__).parents[2]
FOLDER = HOME / "docs" / "pictures"
LARGEST = 150_000
"""Bytes of a picture at most."""

PANELS = (
    (
        service.BOARD,
        (
            ("Processes", "Settlement workers", "Settlement halted", "Queue server", "Free disk", "Restarts"),
            ("Requests by route", "Latency by route", "Commits"),
            ("Lock waits", "CPU", "Memory"),
        ),
    ),
    (
        transfers.BOARD,
        (
            ("Oldest pending", "Pending", "Accepted", "Settled", "Failed share", "Imbalance"),
            ("Accepted and settled", "Time to the end", "Time to accept"),
            ("Group and batch size", "Time under the lock", "Refusals by code"),
        ),
    ),
)
"""The lines of panels in the picture of each dashboard."""


def main() -> int:
    """Make the pictures. Returns the exit status."""
    if not shutil.which("prometheus"):
        print("make pictures needs Prometheus on the PATH", file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "demo.svg").write_text(terminal.demo())
    with tempfile.TemporaryDirectory(prefix="giro-pictures-") as folder:
        _pictures_of_a_service(Path(folder))
    sizes = {path.name: path.stat().st_size for path in sorted(FOLDER.iterdir())}
    print("\n".join(f"{size:>8} {name}" for name, size in sizes.items()))
    return int(max(sizes.values()) > LARGEST)


def _pictures_of_a_service(folder: Path) -> None:
    (folder / "prometheus").mkdir()
    stack = Stack(folder, measured=False, scraped=True)
    prometheus = Prometheus(folder / "prometheus", stack.metrics_ports).start()
    try:
        stack.start()
        _first_page(bank.statement(stack), folder / "statement.pdf")
        bank.load(stack)
        for board, lines in PANELS:
            (FOLDER / f"dashboard-{board.name}.svg").write_text(dashboard.picture(board, lines, prometheus))
    finally:
        prometheus.close()
        stack.close()


def _first_page(pdf: bytes, path: Path) -> None:
    """Draw the first page with the libraries in the environment of the documentation site."""
    path.write_bytes(pdf)
    script = Path(__file__).with_name("first_page.py")
    subprocess.run([HOME / ".venv-docs/bin/python", script, path, FOLDER / "statement.png"], check=True)


if __name__ == "__main__":
    sys.exit(main())
