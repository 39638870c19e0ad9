"""What a siege measured: the samples of the well-behaved customer, the attacker's answers, and the service's memory."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Sample:
    """One action of the customer: how long it took, and `ok` or the outcome that it should not have had."""

    ms: float
    outcome: str

    @property
    def is_ok(self) -> bool:
        return self.outcome == "ok"


def quantile(values: Sequence[float], part: float) -> float:
    """Return the smallest value that at least `part` of the values do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(math.ceil(part * len(ranked)) - 1, 0)]


@dataclass(frozen=True, slots=True)
class Kind:
    """The figures of one kind of action, in milliseconds; failed actions count with the time until they failed."""

    count: int
    p50: float
    p99: float
    longest: float
    failures: Mapping[str, int]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "Kind":
        """Summarise at least one sample."""
        times = [sample.ms for sample in samples]
        failures = Counter(sample.outcome for sample in samples if not sample.is_ok)
        return cls(len(times), quantile(times, 0.5), quantile(times, 0.99), max(times), dict(failures))


@dataclass(frozen=True, slots=True)
class Attacker:
    """What the attacker did, and which answers came back."""

    seconds: float
    cpu_seconds: float
    answers: Mapping[str, int]

    @property
    def rate(self) -> float:
        """Answers, closed connections and time-outs per second."""
        return sum(self.answers.values()) / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for `--json`."""
        return {
            "seconds": round(self.seconds, 1),
            "cpu_seconds": round(self.cpu_seconds, 1),
            "rate": round(self.rate, 1),
            "answers": dict(self.answers),
        }


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a siege: idle, or one attack."""

    name: str
    kinds: Mapping[str, Kind]
    attacker: Attacker | None
    memory_mb: float
    """Largest resident memory of the API with its children, in megabytes."""
    rest_seconds: float
    """Time after the phase until the service had nothing left to do."""

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for `--json`."""
        kinds = {
            name: {"n": kind.count, "p50_ms": round(kind.p50, 1), "p99_ms": round(kind.p99, 1)}
            | {"max_ms": round(kind.longest, 1), "failures": dict(kind.failures)}
            for name, kind in self.kinds.items()
        }
        return {
            "name": self.name,
            "customer": kinds,
            "attacker": self.attacker and self.attacker.as_dict(),
            "api_memory_mb": round(self.memory_mb),
            "rest_seconds": round(self.rest_seconds, 1),
        }


def kinds_of(samples: Mapping[str, Iterable[Sample]]) -> dict[str, Kind]:
    """Summarise the samples of each kind that has any."""
    listed = {name: list(some) for name, some in samples.items()}
    return {name: Kind.of(some) for name, some in listed.items() if some}


def quieter(phases: Sequence[Phase]) -> Phase:
    """Return the idle service: of each kind the figures of the idle phase with the smaller p99.

    So one disturbance of the machine in one of these phases loosens no bound.
    """
    names = dict.fromkeys(name for phase in phases for name in phase.kinds)
    kinds = {
        name: min((phase.kinds[name] for phase in phases if name in phase.kinds), key=lambda kind: kind.p99)
        for name in names
    }
    return Phase(IDLE, kinds, None, 0, 0)
