"""Puts each bug of the table into a throwaway copy of the code, and runs the tests that must find it.

`python -m tests.mutants` runs all of them, `python -m tests.mutants --quick` the short run, and
`python -m tests.mutants WORD` the bugs whose description contains the word. The exit status is 1 if a bug is not found,
or if a test fails without any bug.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from tests.mutants.table import MUTANTS, SIMULATION, Mutant

HOME = Path(__file__).parent.parent.parent
COPIED = ("api", "core", "workers", "migrations", "tests", "docs", "deploy")
SECONDS = 240
"""Time limit: a test that runs longer does not count as finding the bug."""
COPIES = 2
FAILED_TESTS = 1
"""Pytest's exit status for failed tests; any other status means that they did not run."""


@dataclass
class Verdict:
    """The result of a mutant."""

    mutant: Mutant
    word: str
    seconds: float
    said: str = ""


def main(arguments: Sequence[str]) -> int:
    """Run the mutants that the arguments select, and return the exit status."""
    chosen = [mutant for mutant in MUTANTS if _is_chosen(mutant, arguments)]
    begun = time.monotonic()
    with TemporaryDirectory(prefix="giro-mutants-") as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(COPIES):
            copies.put(_copy(Path(folder) / f"copy-{number}"))
        if not _is_green(copies, chosen):
            return 1
        with ThreadPoolExecutor(COPIES) as pool:
            verdicts = pool.map(lambda mutant: _try(copies, mutant), chosen)
            caught = sum([_show(verdict) for verdict in verdicts])
    print(f"{caught} of {len(chosen)} mutants caught, in {time.monotonic() - begun:.0f} s")
    return 0 if caught == len(chosen) else 1


def _is_chosen(mutant: Mutant, arguments: Sequence[str]) -> bool:
    if "--quick" in arguments:
        return mutant.quick
    return not arguments or any(word in mutant.bug for word in arguments)


def _copy(target: Path) -> Path:
    for name in COPIED:
        shutil.copytree(HOME / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "coverage"))
    for name in ("pyproject.toml", "alembic.ini"):
        shutil.copyfile(HOME / name, target / name)
    return target


def _is_green(copies: "SimpleQueue[Path]", chosen: Iterable[Mutant]) -> bool:
    """Run every test on the unchanged code: a test that fails anyway cannot find a bug."""
    copy = copies.get()
    killers = {killer for mutant in chosen for killer in mutant.killers}
    done = _run(copy, sorted(killers), simulated_seconds=10)
    copies.put(copy)
    if done.returncode != 0:
        print("Tests that fail without any mutant:", done.stdout[-3000:], sep="\n")
    return done.returncode == 0


def _try(copies: "SimpleQueue[Path]", mutant: Mutant) -> Verdict:
    copy, begun = copies.get(), time.monotonic()
    path = copy / mutant.path
    original = path.read_text()
    try:
        path.write_text(mutant.applied_to(original))
        done = _run(copy, mutant.killers, simulated_seconds=60)
        word = {FAILED_TESTS: "caught", 0: "SURVIVED"}.get(done.returncode, "BROKEN")
        return Verdict(mutant, word, time.monotonic() - begun, done.stdout)
    except LookupError as error:
        return Verdict(mutant, "NOT FOUND", time.monotonic() - begun, str(error))
    except subprocess.TimeoutExpired:
        return Verdict(mutant, "HUNG", time.monotonic() - begun)
    finally:
        path.write_text(original)
        copies.put(copy)


def _run(copy: Path, killers: Sequence[str], *, simulated_seconds: int) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy),  # before the installed folder
        "PYTHONDONTWRITEBYTECODE": "1",
        "SIMULATE_SECONDS": str(simulated_seconds),
        "SIMULATE_SEED": "1",
        "SIMULATE_SHORTEN": "no",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *killers]
    if SIMULATION in killers:
        command += ["--deselect", f"{SIMULATION}/test_simulation.py::{_SECOND_PLAYER}"]
    return subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )


_SECOND_PLAYER = "test_bank_matches_the_model_in_every_sequence[2]"


def _show(verdict: Verdict) -> bool:
    print(f"{verdict.word:9} {verdict.seconds:5.1f} s  {verdict.mutant.bug}", flush=True)
    if verdict.word != "caught":
        print(verdict.said[-2000:])
    return verdict.word == "caught"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
