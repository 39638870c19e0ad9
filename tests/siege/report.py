"""The table of a siege."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from tests.siege.aims import Verdict
from tests.siege.figures import Attacker, Kind, Phase

QUIET_MS = {"accounts": 100, "login": 1000}
"""The p99 of an idle service on a quiet machine is below this."""
COLUMNS = ("accounts", "transfers", "submit", "complete", "login", "health", "document", "shared sign-up", "own delay")


def show(console: Console, phases: Sequence[Phase], idle: Phase, verdicts: Sequence[Verdict]) -> None:
    """Print the customer's times, the attackers, and each aim."""
    console.print(_times(phases, idle))
    if is_busy(idle):
        console.print(
            "The machine is busy: with no attack too, the customer waits. Bounds that follow the idle times are lax."
        )
    console.print(_attackers(phases))
    console.print(_aims(verdicts))


def is_busy(idle: Phase) -> bool:
    """True if the idle service is slower than any machine should make it, so that the figures say little."""
    return any(idle.kinds[name].p99 > most for name, most in QUIET_MS.items() if name in idle.kinds)


def _times(phases: Sequence[Phase], idle: Phase) -> Table:
    table = Table(
        title="The customer's milliseconds: p50 / p99 / longest, p99 ÷ idle, and failures", title_justify="left"
    )
    used = [name for name in COLUMNS if any(name in phase.kinds for phase in phases)]
    for name in ("", *used):
        table.add_column(name, overflow="fold")
    for phase in phases:
        table.add_row(phase.name, *(_cell(phase.kinds.get(name), idle.kinds.get(name)) for name in used))
        table.add_section()
    return table


def _cell(kind: Kind | None, idle: Kind | None) -> str:
    if kind is None:
        return ""
    ratio = f"\n{kind.p99 / idle.p99:.1f} × idle" if idle and idle.p99 else ""
    failed = "".join(f"\n{count}/{kind.count} {outcome}" for outcome, count in kind.failures.items())
    return f"{kind.p50:.0f} / {kind.p99:.0f} / {kind.longest:.0f}{ratio}{failed}"


def _attackers(phases: Sequence[Phase]) -> Table:
    table = Table(title="The attackers, and what they cost", title_justify="left")
    for name in ("", "answers/s", "CPU of attacker", "answers", "API memory, MB", "at rest after, s"):
        table.add_column(name, overflow="fold")
    for phase in phases:
        row = _attacker(phase.attacker) if phase.attacker else ("", "", "")
        table.add_row(phase.name, *row, f"{phase.memory_mb:.0f}", f"{phase.rest_seconds:.1f}")
    return table


def _attacker(attacker: Attacker) -> tuple[str, str, str]:
    return f"{attacker.rate:.0f}", f"{attacker.cpu_seconds / attacker.seconds:.0%}", _listed(attacker.answers)


def _listed(answers: Mapping[str, int]) -> str:
    return ", ".join(f"{status}: {count}" for status, count in sorted(answers.items(), key=lambda pair: -pair[1]))


def _aims(verdicts: Sequence[Verdict]) -> Table:
    table = Table(title="The aims", title_justify="left")
    for name in ("", "attack", "aim", "measured"):
        table.add_column(name, overflow="fold")
    for verdict in verdicts:
        table.add_row("holds" if verdict.holds else "MISSED", verdict.phase, verdict.aim, verdict.value)
    return table
