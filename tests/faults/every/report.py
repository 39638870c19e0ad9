"""The result: a table for people, and one JSON object for programs."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.faults.every.operation import DONE, UNAVAILABLE, UNKNOWN
from tests.faults.every.trials import BAD, KILLED, NOT_REACHED, Result

MOST_FINDINGS = 20
COLUMNS = {DONE: "done", UNAVAILABLE: "refused", UNKNOWN: "unknown", KILLED: "killed", NOT_REACHED: "not reached"}


def table(results: Sequence[Result]) -> str:
    """Return one line for each operation, kind of call and fault, and then the findings."""
    heads = ("operation", "call", "fault", "calls", "trials", *COLUMNS.values(), "bad")
    lines = [heads]
    for result in results:
        for (call, fault), outcomes in result.outcomes.items():
            words = (call.name.lower(), fault.name.lower().replace("_", " "))
            figures = (result.calls[call], outcomes.total(), *_figures(outcomes))
            lines.append((result.operation, *words, *(str(figure or "-") for figure in figures)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    text = ["  ".join(_cell(line[column], widths[column], column) for column in range(len(heads))) for line in lines]
    return "\n".join([*text, "", *_verdict(results)])


def _figures(outcomes: Counter[str]) -> list[int]:
    return [*(outcomes[word] for word in COLUMNS), sum(outcomes[word] for word in BAD)]


def _cell(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column < 3 else text.rjust(width)


def _verdict(results: Sequence[Result]) -> list[str]:
    findings = [finding for result in results for finding in result.findings]
    trials, seconds = sum(result.trials for result in results), sum(result.seconds for result in results)
    lines = [f"{trials} trials in {seconds:.0f} s, {len(findings)} findings"]
    return lines + [f"  {finding}" for finding in findings[:MOST_FINDINGS]]


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the same as values that JSON has."""
    return [
        {
            "operation": result.operation,
            "calls": {call.name.lower(): count for call, count in result.calls.items()},
            "outcomes": [
                {"call": call.name.lower(), "fault": fault.name.lower(), **outcomes}
                for (call, fault), outcomes in result.outcomes.items()
            ],
            "trials": result.trials,
            "seconds": round(result.seconds, 1),
            "findings": result.findings,
        }
        for result in results
    ]
