"""The aims of a siege, and their judgement.

A bound that depends on the idle service is never below a floor: the machine has few processors, and other programs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.siege.customer import GENUINE_SECONDS
from tests.siege.figures import Kind, Phase

MEMORY_MB = 512
"""Memory limit of the container of the API in docker-compose.yml."""
IDLE_FLOOR_MS = 10
TIMES_IDLE = 5
GREEDY = ("readers", "month")
"""The attacks of one customer's 64 greedy connections."""

SHARE_OF_SLACK = 0.05
"""The share of a kind of actions that may fail for each whole number of slack above 1."""

Bound = Callable[[float], float]
"""The largest allowed milliseconds, given those of the idle service."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One checked aim."""

    aim: str
    phase: str
    value: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Within:
    """An aim: the 99th percentile of a kind of action stays within a bound."""

    kind: str
    bound: Bound
    attacks: tuple[str, ...]

    def judge(self, phase: Phase, idle: Phase, slack: float = 1) -> Verdict:
        """Compare a phase with the idle service; a kind without samples misses the aim."""
        bound = slack * self.bound(idle.kinds[self.kind].p99 if self.kind in idle.kinds else 0)
        measured = phase.kinds.get(self.kind)
        value = f"{measured.p99:.0f} ms" if measured else "nothing measured"
        holds = measured is not None and measured.p99 <= bound
        return Verdict(f"{self.kind} p99 ≤ {bound:.0f} ms", phase.name, value, holds)


def fixed(ms: float, times_idle: float = 2) -> Bound:
    """Return a bound in milliseconds, or a multiple of the idle time on a machine that is slower than that."""
    return lambda idle: max(ms, times_idle * idle)


def times_idle(idle: float) -> float:
    """Return five times the idle time, or of its floor."""
    return TIMES_IDLE * max(idle, IDLE_FLOOR_MS)


AIMS: Sequence[Within] = (
    Within("accounts", times_idle, GREEDY),
    Within("login", fixed(1000), GREEDY),
    Within("complete", fixed(1500), ("bulk",)),
    Within("document", fixed(3000), ("documents", "month")),
    Within("health", fixed(1000), ("strangers",)),
    Within("login", fixed(1000), ("strangers",)),
    Within("login", fixed(2000), ("guessing",)),
    Within("shared sign-up", fixed(1000 * GENUINE_SECONDS), ("sign-ups",)),
    Within("accounts", fixed(1000), ("documents", "bulk", "strangers", "sign-ups", "guessing")),
    Within("accounts", fixed(1000), ("payees", "hostile", "refusals")),
)


def judge(phases: Sequence[Phase], idle: Phase, slack: float = 1) -> list[Verdict]:
    """Check every aim of the played attacks, and that no action of the customer failed.

    `slack` multiplies each bound of time, for machines whose speed nobody knows, and allows some failures above 1.
    """
    verdicts = []
    for phase in phases:
        verdicts += [aim.judge(phase, idle, slack) for aim in AIMS if phase.name in aim.attacks]
        verdicts += [_nothing_failed(phase, slack), _memory(phase)]
        verdicts += [_took_place(phase)] if phase.attacker else []
    return verdicts


def judge_service(*, restarts: Mapping[str, int], verified: bool, said: str, filled: int, wanted: int) -> list[Verdict]:
    """Check what must hold for the service after all attacks, and that the months were as busy as they should be."""
    again = {name: count for name, count in restarts.items() if count}
    shown = ", ".join(f"{name} {count}" for name, count in again.items())
    return [
        Verdict("no process was restarted", "all", shown or "none", not again),
        Verdict("the ledger verifies", "all", said, verified),
        Verdict(f"Mallory's months have {wanted} transactions", "all", str(filled), filled >= wanted),
    ]


def _nothing_failed(phase: Phase, slack: float) -> Verdict:
    allowed = (slack - 1) * SHARE_OF_SLACK
    failed = {name: kind for name, kind in phase.kinds.items() if sum(kind.failures.values()) > allowed * kind.count}
    shown = ", ".join(f"{name}: {_listed(kind)}" for name, kind in failed.items())
    return Verdict("nothing of the customer failed", phase.name, shown or "nothing", bool(phase.kinds) and not failed)


def _listed(kind: Kind) -> str:
    return " ".join(f"{count}× {outcome}" for outcome, count in kind.failures.items())


def _took_place(phase: Phase) -> Verdict:
    answered = phase.attacker is not None and any(status.isdecimal() for status in phase.attacker.answers)
    return Verdict("the attacker got answers", phase.name, "some" if answered else "none", answered)


def _memory(phase: Phase) -> Verdict:
    return Verdict(
        f"memory of the API ≤ {MEMORY_MB} MB", phase.name, f"{phase.memory_mb:.0f} MB", phase.memory_mb <= MEMORY_MB
    )


def exit_status(verdicts: Sequence[Verdict]) -> int:
    """Return 0 if all aims hold, and 1 otherwise or if none was checked."""
    return 0 if verdicts and all(verdict.holds for verdict in verdicts) else 1
