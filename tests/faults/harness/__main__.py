"""The long form: `python -m tests.faults.harness --kills 1000 [--seed 1]`, run after run until so much was killed.

It can be interrupted at any time, and goes on with the seed that it names.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.harness.report import killed, one_line, table
from tests.faults.harness.run import Result, run

KILLS_IN_A_RUN = 25


def main() -> int:
    """Run seed after seed; the exit status is 1 if anything did not hold."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--kills", type=int, required=True, help="how much is to be killed in all")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the first run; each next run takes the next")
    arguments = parser.parse_args()
    results: list[Result] = []
    left, seed = arguments.kills, arguments.seed
    try:
        while left > 0:
            results.append(_one(seed, min(left, KILLS_IN_A_RUN)))
            left, seed = left - max(killed(results[-1]), 1), seed + 1
            print(f"{one_line(results[-1])}; left: KILLS={max(left, 0)} SEED={seed}", flush=True)
    except KeyboardInterrupt:
        print(f"interrupted; go on with: make faults KILLS={left} SEED={seed}", file=sys.stderr)
    print(table(results))
    return 0 if all(result.holds for result in results) else 1


def _one(seed: int, kills: int) -> Result:
    """Run one seed in a folder of its own, which stays if something did not hold."""
    folder = Path(tempfile.mkdtemp(prefix=f"giro-faults-{seed}-"))
    result = run(seed, kills, folder)
    if result.holds:
        shutil.rmtree(folder)
    else:
        print(f"what was seen is in {folder}", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
