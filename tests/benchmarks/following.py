"""The cost, at acceptance, of shipping every change: `make bench-following`.

Two services take the same load in turns (tests/benchmarks/pairs.py). The changes of the first are shipped every few
seconds by `giro backup --follow`.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.pairs import compare, parser_of
from tests.flows.stack import Stack
from tests.waiting import eventually

START_SECONDS = 60


@contextmanager
def followed(stack: Stack, every: float) -> Iterator[None]:
    """Ship the changes of a service that runs."""
    follower = stack.run("backup", "--follow", "--every", str(every), name="follower")
    shipped = stack.data / "backups"
    eventually(lambda: any(shipped.rglob("*.shipment")), START_SECONDS)
    yield
    assert follower.poll() is None, stack.log_text("follower")[-3000:]


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--every", type=float, default=3, help="seconds between shipments (default: 3)")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="giro-bench-") as folder:
        paths = [Path(folder) / name for name in ("followed", "alone")]
        for path in paths:
            path.mkdir()
        stacks = [Stack(path, measured=False) for path in paths]
        compare("followed", stacks, wanted, followed(stacks[0], wanted.every))


if __name__ == "__main__":
    main()
