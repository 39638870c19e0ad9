"""Make the n-th read, write, sync, truncation and change of a name fail or be torn, for every n of an operation.

Each fault gets its own process and its own copy of a small bank. Afterwards, without faults, the data folder is opened
and judged, and the operation is done again. The exit status is 1 if there is a finding, and 2 if this machine cannot
make calls fail.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from core.settings import PREFIX, Settings, load_settings
from core.telemetry.logging import configure_logging
from tests.faults.every import report, shim, trials
from tests.faults.every.operations import OPERATIONS
from tests.faults.every.shim import Call
from tests.faults.every.trials import Result

MEMORY = Path("/dev/shm")
"""A file system in memory, where a sync costs nothing. What reaches a real disk is the subject of `make power`."""


def main(arguments: Sequence[str]) -> int:
    """Build the shim and start this program again with it, or run the trials if it is there."""
    chosen = _parser().parse_args(arguments)
    if shim.VARIABLE in os.environ:
        return _run(chosen)
    if why := shim.why_impossible():
        print(f"make faults-all: {why}", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="giro-every-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None)).resolve()
    try:
        os.environ["TMPDIR"] = str(folder)
        return shim.run_with_shim(folder, sys.executable, "-m", "tests.faults.every", *arguments)
    finally:
        shutil.rmtree(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make faults-all", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--operation", action="append", choices=OPERATIONS, help="default: all of them")
    parser.add_argument("--call", choices=[call.name.lower() for call in Call], help="only this kind of call")
    parser.add_argument("--step", type=int, default=1, metavar="N", help="only each N-th call; default: every call")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of the table")
    parser.add_argument("--quiet", action="store_true", help="print no progress")
    return parser


def _run(chosen: argparse.Namespace) -> int:
    """Run the trials of all chosen operations, one operation after the other."""
    results = []
    for name in chosen.operation or OPERATIONS:
        folder = Path(tempfile.mkdtemp())
        only = Call[chosen.call.upper()] if chosen.call else None
        progress = _silent if chosen.quiet else _draw
        results.append(
            trials.run(
                name, OPERATIONS[name], _settings(folder), folder, only=only, step=chosen.step, progress=progress
            )
        )
    print(json.dumps(report.as_json(results), indent=2) if chosen.json else report.table(results))
    return 1 if any(result.findings for result in results) else 0


def _settings(folder: Path) -> Settings:
    """Make the settings of a data folder below `folder`, in the environment too, without those of this machine."""
    for name in [name for name in os.environ if name.startswith(PREFIX) or name in ("DATABASE_URL", "JWT_SECRET")]:
        del os.environ[name]
    os.environ["GIRO_DATA_DIR"] = str(folder / "data")
    os.chdir(folder)
    settings = load_settings(_env_file=None)
    configure_logging(settings.model_copy(update={"log_level": "error"}), process="every")
    return settings


def _draw(result: Result, trials: int) -> None:
    """Draw the progress in one line of a terminal, or a line for each hundredth trial elsewhere."""
    line = f"{result.operation}: {result.trials} of {trials}, {len(result.findings)} findings, {result.seconds:.0f} s"
    if sys.stderr.isatty():
        print(f"\r{line}", end="", file=sys.stderr, flush=True)
    elif result.trials % 100 == 0:
        print(line, file=sys.stderr, flush=True)


def _silent(_result: Result, _trials: int) -> None:
    """Draw nothing."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
