"""The long form: `python -m tests.faults.harness --kills 1000 [--seed 1]` repeats runs up to that number of kills.

It can be interrupted at any time. It then prints the command to continue with.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.harness.report import killed, one_line, table
from tests.faults.harness.run import ELLE, Result, run

KILLS_IN_A_RUN = 25


def main() -> int:
    """Run seed after seed; the exit status is 1 if any check failed."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--kills", type=int, required=True, help="number of kills in all runs together")
    parser.add_argument(
        "--seed", type=int, default=1, help="the seed of the first run; each following run uses the next number"
    )
    parser.add_argument(
        "--lasting",
        type=int,
        default=2,
        help="number of faults at the end of each run that last until health must name them (about 23 s each)",
    )
    parser.add_argument(
        "--elle", type=Path, metavar="FILE", help="write the history for Elle; further runs add their seed to the name"
    )
    arguments = parser.parse_args()
    results: list[Result] = []
    left, seed = arguments.kills, arguments.seed
    try:
        while left > 0 or not results:
            elle = _elle_file(arguments.elle, seed, arguments.seed)
            results.append(_one(seed, min(left, KILLS_IN_A_RUN), arguments.lasting, elle))
            left, seed = left - max(killed(results[-1]), 1), seed + 1
            print(f"{one_line(results[-1])}; left: KILLS={max(left, 0)} SEED={seed}", flush=True)
    except KeyboardInterrupt:
        print(f"interrupted; continue with: make faults KILLS={left} SEED={seed}", file=sys.stderr)
    print(table(results))
    return 0 if all(result.holds for result in results) else 1


def _elle_file(file: Path | None, seed: int, first: int) -> Path | None:
    return file if file is None or seed == first else file.with_stem(f"{file.stem}-{seed}")


def _one(seed: int, kills: int, lasting: int, elle: Path | None) -> Result:
    """Run one seed in its own folder, which is kept if a check failed."""
    folder = Path(tempfile.mkdtemp(prefix=f"giro-faults-{seed}-"))
    result = run(seed, kills, folder, lasting)
    if elle is not None:
        shutil.copyfile(folder / ELLE, elle)
    if result.holds:
        shutil.rmtree(folder)
    else:
        print(f"the records of this run are in {folder}", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
