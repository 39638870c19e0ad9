"""The ledger without HTTP, now and at an earlier revision: `make bench-ledgers BASE=7fc31e5`.

Each revision's program plays in another process, and both take turns round by round, in an order that changes, so
that noise of the machine affects both. A ratio above 1 means that this revision is faster, or smaller.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from tests.benchmarks.changes import extract

BASE = "7fc31e5"
"""The last revision before transfers had endings (docs/decisions/0043-endings-reservations-and-lanes.md)."""

ROOT = Path(__file__).parents[2]
PLAYER = Path(__file__).with_name("ledger_player.py")


class Player:
    """A process that plays rounds with the program of one revision."""

    def __init__(self, program: Path, data: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(program), "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(PLAYER), str(data)],
            cwd=program,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def play(self, *order: str | int) -> dict[str, float]:
        """Play one round, and return its figures by name."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(*order, file=self._process.stdin, flush=True)
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=BASE, help=f"git revision to compare with (default: {BASE})")
    parser.add_argument("--pairs", type=int, default=12, help="pairs of rounds (default: 12)")
    parser.add_argument("--singles", type=int, default=300, help="transfers of a round, one by one (default: 300)")
    parser.add_argument("--transfers", type=int, default=10_000, help="transfers of a round in bulk (default: 10,000)")
    parser.add_argument("--group", type=int, default=1000, help="transfers accepted together in bulk (default: 1,000)")
    wanted = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="giro-bench-") as folder:
        program = Path(folder) / "program"
        program.mkdir()
        extract(wanted.base, program)
        with Player(ROOT, Path(folder) / "now") as now, Player(program, Path(folder) / "before") as before:
            compare(now, before, wanted)


def compare(now: Player, before: Player, wanted: argparse.Namespace) -> None:
    """Let both play in turns, and print each figure's medians and ratios."""
    orders: tuple[tuple[str | int, ...], ...] = (
        ("transfers", "single", 1, wanted.singles),
        ("transfers", "bulk", wanted.group, wanted.transfers),
        ("verify",),
    )
    found: dict[str, list[tuple[float, float]]] = {}
    for pair in range(-1, wanted.pairs):
        for order in orders:
            sides = {player: player.play(*order) for player in (now, before)[:: 1 if pair % 2 else -1]}
            if pair >= 0:  # the first pair warms up
                for name, value in sides[now].items():
                    found.setdefault(name, []).append((value, sides[before][name]))
    for name, pairs in found.items():
        ratios = [other / one for one, other in pairs]
        one, other = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(
            f"{name}: {one:.1f} now, {other:.1f} before; before to now: median {statistics.median(ratios):.3f}, "
            f"{min(ratios):.3f} to {max(ratios):.3f}, n = {len(ratios)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
