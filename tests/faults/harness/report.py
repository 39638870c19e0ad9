"""The table at the end: faults, outcomes, recovery times, and the results of the checks."""

from collections import Counter
from collections.abc import Sequence
from statistics import median

from tests.faults.harness.health import PROMISES
from tests.faults.harness.run import Result

MOST_FINDINGS = 5


def one_line(result: Result) -> str:
    """One line about a run, to show progress."""
    verdict = "holds" if result.holds else "DOES NOT HOLD: " + ", ".join(k for k, v in result.findings.items() if v)
    return (
        f"seed {result.seed}: {killed(result)} kills, {result.faults.total()} faults, {result.transfers} transfers, "
        f"recovery {spread(result.recoveries)}, {result.seconds:.0f} s: {verdict}"
    )


def killed(result: Result) -> int:
    """Number of kills (SIGKILL) by the nemesis."""
    return result.faults["kill"] + result.faults["kill everything"]


def spread(seconds: Sequence[float]) -> str:
    """Median and maximum of some times."""
    return f"median {median(seconds):.2f} s, at most {max(seconds):.2f} s" if seconds else "-"


def table(results: Sequence[Result]) -> str:
    """Return the table of all runs together."""
    sums: dict[str, Counter[str]] = {"faults": Counter(), "ends of processes": Counter(), "submissions": Counter()}
    for result in results:
        for counter, counts in zip(sums.values(), (result.faults, result.deaths, result.outcomes), strict=True):
            counter.update(counts)
    lines = [f"{len(results)} runs in {sum(result.seconds for result in results):.0f} s"]
    for heading, counter in sums.items():
        lines += ["", f"{heading}: {counter.total()}"]
        lines += [f"  {count:>7}  {name}" for name, count in counter.most_common()]
    recoveries = [seconds for result in results for seconds in result.recoveries]
    lines += ["", f"from a kill to the end of a transfer submitted after it ({len(recoveries)}): {spread(recoveries)}"]
    lines += ["", f"until health named a fault ({sum(result.health_answers for result in results)} answers of health)"]
    lines += _detections(results)
    lines += ["", f"transfers in the ledgers: {sum(result.transfers for result in results)}"]
    lines += [f"pages of balances added up: {sum(result.pages for result in results)}", "", "what holds"]
    return "\n".join([*lines, *_verdicts(results)])


def _detections(results: Sequence[Result]) -> list[str]:
    """Line up, for each fault that health must name, how often and how soon it did."""
    found: dict[str, list[float]] = {name: [] for name in PROMISES}
    for result in results:
        for name, seconds in result.detections.items():
            found[name] += seconds
    return [f"  {len(seconds):>7}  {name}: {spread(seconds)}" for name, seconds in found.items()]


def _verdicts(results: Sequence[Result]) -> list[str]:
    lines = []
    for check in dict.fromkeys(name for result in results for name in result.findings):
        broken = [result for result in results if result.findings.get(check)]
        seeds = ", ".join(str(result.seed) for result in broken)
        lines.append(f"  {'no: seed ' + seeds if broken else 'yes':>7}  {check.replace('_', ' ')}")
        lines += [f"           {finding}" for result in broken for finding in result.findings[check][:MOST_FINDINGS]]
    return lines
