"""The cost, at acceptance, of all changes since a revision: `make bench-changes BASE=04afee0`.

The program of that revision and this one take the same load in turns, with the default limits of each
(tests/benchmarks/pairs.py). Both run with this environment's packages.
"""

import subprocess
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from tests.benchmarks.pairs import compare, parser_of
from tests.flows.stack import Stack

BASE = "04afee0"
"""The last revision without budgets of callers (docs/decisions/0033-budgets.md)."""


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--base", default=BASE, help=f"git revision to compare with (default: {BASE})")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="giro-bench-") as folder:
        now, before = (Path(folder) / name for name in ("now", "before"))
        program = Path(folder) / "program"
        for path in (now, before, program):
            path.mkdir()
        extract(wanted.base, program)
        former = Stack(before, measured=False)
        former.program = program
        compare("changed", [Stack(now, measured=False), former], wanted)


def extract(revision: str, folder: Path) -> None:
    """Write the files of a revision into a folder."""
    packed = subprocess.run(["git", "archive", revision], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as files:
        files.extractall(folder, filter="data")


if __name__ == "__main__":
    main()
