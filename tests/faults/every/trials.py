"""Trials: one operation in its own process with one fault, and the judgement of what is left."""

import os
import shutil
import signal
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import core  # imported first, because it installs the current SQLite
from core.settings import Settings
from core.storage.sqlite import schema
from tests.compiled_once import share_compiled_statements
from tests.faults.every import shim
from tests.faults.every.operation import CRASHED, DONE, UNAVAILABLE, UNKNOWN, Operation, Said, heard, tell_into
from tests.faults.every.shim import FAULTS, Call, Fault

SECONDS = 60
"""Time limit of a process, which is killed then."""

KILLED, HUNG, NOT_REACHED = "killed", "hung", "not reached"
BAD = (CRASHED, HUNG)
"""Outcomes that are findings: an error that nobody handles, and a process that does not end."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault and its result."""

    call: Call
    number: int
    fault: Fault
    outcome: str
    findings: list[str]


@dataclass(slots=True)
class Result:
    """All trials of one operation."""

    operation: str
    calls: dict[Call, int] = field(default_factory=dict)
    """The number of calls of each kind without a fault."""
    outcomes: dict[tuple[Call, Fault], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    findings: list[str] = field(default_factory=list)
    seconds: float = 0

    @property
    def trials(self) -> int:
        """The number of trials."""
        return sum(outcomes.total() for outcomes in self.outcomes.values())

    def add(self, trial: Trial) -> None:
        """Count a trial, and keep its findings."""
        self.outcomes[trial.call, trial.fault][trial.outcome] += 1
        what = f"{self.operation}: {trial.call.name.lower()} {trial.number} {trial.fault.name.lower()}"
        self.findings += [f"{what}: {finding}" for finding in trial.findings]


class Laboratory:
    """A folder in which an operation is tried again and again, each time on a new copy of one data folder."""

    def __init__(self, operation: Operation, settings: Settings, folder: Path) -> None:
        """Prepare the data folder of the settings, which is in `folder`."""
        assert core, "imported first"
        self._operation, self._settings, self._folder = operation, settings, folder
        self._template, self._told = folder / "template", folder / "told"
        settings.data_dir.mkdir(parents=True)
        share_compiled_statements()
        self._facts = operation.prepare(settings)
        schema.expected()  # kept, and then not computed again in each process
        settings.data_dir.rename(self._template)

    def count(self) -> dict[Call, int]:
        """Do the operation without a fault, and return its calls. Raises AssertionError if that is not sound."""
        trial = self.try_one(Call.READ, 0, Fault.NONE)
        assert (trial.outcome, trial.findings) == (DONE, []), f"without a fault: {trial}\n{self._errors()}"
        return {call: self._told_by_process()[-1]["counted"][call] for call in Call}

    def try_one(self, call: Call, number: int, fault: Fault) -> Trial:
        """Do the operation with one fault, judge what is left, and return the result."""
        shutil.rmtree(self._settings.data_dir, ignore_errors=True)
        shutil.copytree(self._template, self._settings.data_dir)
        self._told.unlink(missing_ok=True)
        status = self._in_process(lambda: self._do(call, number, fault), "errors")
        told = self._told_by_process()
        findings = self._judge([said for said in told if "counted" not in said])
        outcome = _outcome(status, told, call, number)
        if outcome in BAD:
            findings.append(f"{outcome}: {self._errors()}")
        return Trial(call, number, fault, outcome, findings)

    def _do(self, call: Call, number: int, fault: Fault) -> None:
        tell = tell_into(self._told)
        shim.arm(self._settings.data_dir, call, number, fault)
        self._operation.do(self._settings, self._facts, tell)
        tell("ended", counted=list(shim.counted().values()))

    def _judge(self, told: list[Said]) -> list[str]:
        """Judge in another process, so that this one never opens a database."""
        findings = self._folder / "findings"
        findings.unlink(missing_ok=True)

        def judge() -> None:
            tell = tell_into(findings)
            for finding in self._operation.judge(self._settings, self._facts, told):
                tell(finding)

        status = self._in_process(judge, "judge")
        found = [said["what"] for said in heard(findings)]
        return found if status == 0 else [*found, f"the judge failed: {self._errors('judge')}"]

    def _in_process(self, work: Callable[[], None], output: str) -> int:
        """Do some work in a fork of this process, whose output goes to a file, and return its wait status."""
        pid = os.fork()
        if pid == 0:
            signal.alarm(SECONDS)
            descriptor = os.open(self._folder / output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            try:
                work()
            except BaseException:
                os.write(2, traceback.format_exc().encode())
                os._exit(1)
            os._exit(0)
        return os.waitpid(pid, 0)[1]

    def _told_by_process(self) -> list[Said]:
        return heard(self._told)

    def _errors(self, output: str = "errors") -> str:
        """Return the last line of a process's output, which names its exception."""
        return (self._folder / output).read_text().strip().rpartition("\n")[2]


def _outcome(status: int, told: list[Said], call: Call, number: int) -> str:
    """Return the outcome in one word: the worst of what was told, or how the process ended."""
    if os.WIFSIGNALED(status):
        return KILLED if os.WTERMSIG(status) == signal.SIGKILL else HUNG
    if os.waitstatus_to_exitcode(status) != 0:
        return CRASHED
    if number > told[-1]["counted"][call]:
        return NOT_REACHED
    whats = {said["what"] for said in told}
    return next((word for word in (CRASHED, UNKNOWN, UNAVAILABLE) if word in whats), DONE)


def run(
    name: str,
    operation: Operation,
    settings: Settings,
    folder: Path,
    *,
    only: Call | None = None,
    step: int = 1,
    progress: Callable[[Result, int], Any],
) -> Result:
    """Try each `step`-th call of each kind, or of one kind, with each fault that it can have.

    A kind ends with a call that is not reached: there is no later one. `progress` is called after each trial, with the
    expected number of trials.
    """
    started, result = time.monotonic(), Result(name)
    laboratory = Laboratory(operation, settings, folder)
    result.calls = laboratory.count()
    kinds = [(call, fault) for call in Call if only in (None, call) for fault in FAULTS[call]]
    expected = sum(-(-result.calls[call] // step) + 1 for call, _ in kinds)
    for call, fault in kinds:
        for number in count(1, step):
            trial = laboratory.try_one(call, number, fault)
            result.add(trial)
            result.seconds = time.monotonic() - started
            progress(result, expected)
            if trial.outcome == NOT_REACHED and number > result.calls[call]:
                break
    return result
