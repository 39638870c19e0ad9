"""The long form: `python -m tests.faults.power [--cuts 2000] [--seed 1]` records a service, and cuts its power.

The exit status is 1 if a check failed, and 2 if recording was not possible.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from core.settings import load_settings
from core.telemetry.logging import configure_logging
from tests.faults.power.check import CHECKS
from tests.faults.power.controls import CONTROLS, cut
from tests.faults.power.replay import GOES_ON, Replay, Result
from tests.faults.power.service import record, why_impossible

CUTS = 1000
WAYS = 8
MOST_FINDINGS = 5


def main() -> int:
    """Record, cut, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(prog="make power", description=__doc__)
    parser.add_argument(
        "--cuts", type=int, default=CUTS, help="number of cuts in addition to those around each sync and each answer"
    )
    parser.add_argument("--seed", type=int, default=1, help="the seed of the cuts and of the states they leave")
    arguments = parser.parse_args()
    if (why := why_impossible()) is not None:
        print(f"make power: {why}", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="giro-power-")).resolve()
    configure_logging(load_settings(_env_file=None, data_dir=folder, log_level="error"), process="power")
    result = _run(folder, arguments.cuts, arguments.seed)
    if result.holds:
        shutil.rmtree(folder)
    else:
        print(f"the record is in {folder}")
    return 0 if result.holds else 1


def _run(folder: Path, cuts: int, seed: int) -> Result:
    begun = time.monotonic()
    recording = record(folder)
    recorded = time.monotonic()
    print(f"recorded in {recorded - begun:.0f} s; cutting the power, seed {seed} ...", flush=True)
    left = folder / "left"
    left.mkdir()
    replay = Replay(recording.before, recording.events, left, seed=seed)
    same = replay.everything() == recording.after
    result = replay.run(cuts=cuts, ways=WAYS)
    if not same:
        result.findings["replaying_the_whole_record_gives_the_final_files"] = ["the files differ"]
    for control in CONTROLS:
        lost = cut(control, recording.before, recording.events, left, seed=seed)
        print(f"control, {control}: {lost.lossy_cuts} of {lost.cuts} cuts lost a 202", flush=True)
        if lost.holds:
            result.findings[f"control {control} is noticed"] = ["its power cuts lost nothing that the checks found"]
    print(f"replayed in {time.monotonic() - recorded:.0f} s", _table(result), sep="\n\n")
    return result


def _table(result: Result) -> str:
    """Return the table of figures and of the checks' results."""
    counts = {
        "operations on the disk": result.operations,
        "syncs among them": result.syncs,
        "transfers answered 202": result.accepted,
        "transfers said to have ended": result.ended,
        "power cuts": result.cuts,
        "states after the cuts": result.left,
        "different states, opened and verified": result.opened,
        "states on which the service continued": result.went_on,
        "cuts that lost a 202": result.lossy_cuts,
        "largest number of 202s that one cut lost": result.most_lost,
    }
    lines = [f"{count:>7}  {name}" for name, count in counts.items()]
    lines += ["", "what holds"]
    for check in dict.fromkeys([*(check.__name__ for check in CHECKS), GOES_ON, *result.findings]):
        found = result.findings.get(check, [])
        lines.append(f"{'NO' if found else 'yes':>7}  {check.replace('_', ' ')}")
        lines += [f"         {finding}" for finding in found[:MOST_FINDINGS]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
