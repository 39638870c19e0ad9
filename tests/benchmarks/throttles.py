"""The cost of throttling when transfers are accepted: `make bench-throttles`.

It compares two services: one with a rate limit per user, and one without throttling. No user reaches the limit, so
only the checks, the records and the headers are measured. Both take the same load in turns
(tests/benchmarks/pairs.py).
"""

import tempfile
from pathlib import Path

from tests.benchmarks.pairs import compare, options
from tests.flows.stack import Stack
from tests.unthrottled import UNTHROTTLED

RATE = "999999/1"


def main() -> None:
    """Measure and print."""
    wanted = options(__doc__)
    with tempfile.TemporaryDirectory(prefix="giro-bench-") as folder:
        paths = [Path(folder) / name for name in ("throttled", "unthrottled")]
        for path in paths:
            path.mkdir()
        throttled = Stack(paths[0], measured=False, limit_transfers=RATE, limit_reads=RATE)
        compare("throttled", [throttled, Stack(paths[1], measured=False, **UNTHROTTLED)], wanted)


if __name__ == "__main__":
    main()
