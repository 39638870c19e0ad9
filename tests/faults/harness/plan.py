"""The faults of a run and their times, all derived from one seed."""

import random
from dataclasses import dataclass

from tests.queue_faults import BROKEN

CHILDREN = ("settlement", "api", "jobs", "scheduler", "valkey")
SECONDS_PER_KILL = 2.2
"""A plan's length per kill; about as many faults of other kinds happen between the kills."""

LONGEST_PAUSE = 8.0
"""Longer than the watchdog's limit: it kills some of the stopped processes, and others continue."""

FAILPOINTS = (
    *(f"{place}=exit:0.2" for place in ("accept.before_write", "accept.before_commit", "accept.after_commit")),
    *(f"{place}=exit:0.2" for place in ("wakeup.before_send", "wakeup.between", "wakeup.after_send")),
    *(f"{place}=exit:0.2" for place in ("settle.before_write", "settle.between_writes", "settle.before_commit")),
    *(f"{place}=exit:0.2" for place in ("settle.after_commit", "settle.before_ack")),
    *(f"{place}=raise:0.5" for place in ("accept.before_commit", "settle.before_write", "settle.between_writes")),
    *(f"{place}=raise:0.5" for place in ("settle.before_commit", "settle.after_commit", "wakeup.between")),
    *(f"{place}=delay:300:0.3" for place in ("accept.before_commit", "accept.after_commit", "wakeup.between")),
    *(f"{place}=delay:300:0.3" for place in ("settle.between_writes", "settle.before_commit", "settle.before_ack")),
    *(f"{place}=stop:0.1" for place in ("accept.after_commit", "settle.before_commit", "settle.before_ack")),
)
SHIFTS = (-7_200_000, -60_000, -1_000, 1_000, 60_000, 7_200_000)
"""Errors of the clock in milliseconds."""

BROKEN_QUEUES = tuple(BROKEN)

LASTING = (
    *(("break the queue", state, 8.0) for state in BROKEN_QUEUES),
    ("take the queue away", "", 8.0),
    ("stop and continue", "valkey", 8.0),
    ("failpoint", "settle.before_write=raise:1.0", 18.0),
    ("fill the disk", "", 8.0),
    ("make the disk read-only", "", 8.0),
)
"""Faults that last longer than health needs to see them: kind, value, seconds."""

QUIET_SECONDS = 14.0
"""Time before each of them without any fault, so that health must say ok."""

FORGERIES = (
    "undecodable",
    "no message",
    "unknown actor",
    "wrong types",
    "unknown ids",
    "another queue",
    "a key for ever",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault."""

    at: float
    """Seconds from the start of the run."""
    kind: str
    what: tuple[str, ...] = ()
    """The processes or values of the fault, by preference: if the first process is dead, the next is used."""
    seconds: float = 0.0
    """How long it lasts."""

    @property
    def name(self) -> str:
        """The kind, and the value if there is only one, without its chance: `stop and continue: valkey`."""
        return f"{self.kind}: {self.what[0].rpartition(':')[0] or self.what[0]}" if len(self.what) == 1 else self.kind


def make_plan(seed: int, kills: int) -> list[Fault]:
    """Plan a run with `kills` kills (SIGKILL), in order of time. The same arguments give the same plan."""
    if not kills:
        return []
    dice = random.Random(seed)
    length = kills * SECONDS_PER_KILL
    targets = list(CHILDREN) * (kills // len(CHILDREN) + 1)
    dice.shuffle(targets)
    plan = [_kill(dice, at, target) for at, target in zip(_spread(dice, kills, length), targets, strict=False)]
    # Failpoints are chosen more often than other faults, because there are many of them.
    kinds = [*_OTHERS, "failpoint", "failpoint"] * (kills // len(_OTHERS) + 1)
    dice.shuffle(kinds)
    plan += [_other(dice, at, kind) for at, kind in zip(_spread(dice, len(kinds), length), kinds, strict=True)]
    return sorted(plan, key=lambda fault: fault.at)


def make_lasting_plan(seed: int, faults: int) -> list[Fault]:
    """Plan `faults` lasting faults, one after the other; each run through all of them has its own order."""
    dice = random.Random(seed)
    plan: list[Fault] = []
    at = 0.0
    while len(plan) < faults:
        for kind, value, seconds in dice.sample(LASTING, k=min(len(LASTING), faults - len(plan))):
            plan.append(Fault(at + QUIET_SECONDS, kind, (value,) if value else (), seconds))
            at += QUIET_SECONDS + seconds
    return plan


def length_of(plan: list[Fault]) -> float:
    """Seconds until the last fault ends."""
    return max(fault.at + fault.seconds for fault in plan)


def _spread(dice: random.Random, count: int, length: float) -> list[float]:
    """Random times, one in each of `count` equal intervals."""
    return [(number + dice.random()) * length / count for number in range(count)]


def _kill(dice: random.Random, at: float, target: str) -> Fault:
    # All children are killed equally often, because the supervisor waits longer after each death in a row.
    if dice.random() < 0.08:
        return Fault(at, "kill everything")
    others = [child for child in CHILDREN if child != target]
    return Fault(at, "kill", (target, *dice.sample(others, k=len(others))))


def _other(dice: random.Random, at: float, kind: str) -> Fault:
    choices, shortest, longest = _OTHERS[kind]
    what = tuple(dice.sample(choices, k=len(choices))) if kind in ("stop and continue", "terminate") else ()
    if choices and not what:
        what = (dice.choice(choices),)
    return Fault(at, kind, what, dice.uniform(shortest, longest))


_OTHERS: dict[str, tuple[tuple[str, ...], float, float]] = {
    "stop and continue": (CHILDREN, 0.1, LONGEST_PAUSE),
    "failpoint": (FAILPOINTS, 1.0, 4.0),
    "terminate": (CHILDREN, 0, 0),
    "flush the queue": ((), 0, 0),
    "break the queue": (BROKEN_QUEUES, 1.0, 4.0),
    "take the queue away": ((), 1.0, 4.0),
    "fill the disk": ((), 1.0, 3.0),
    "make the disk read-only": ((), 1.0, 3.0),
    "restore an old queue": (("1", "2", "4", "8"), 0, 0),
    "duplicate messages": ((), 0, 0),
    "reorder messages": ((), 0, 0),
    "delay messages": ((), 0.5, 3.0),
    "forge a message": (FORGERIES, 0, 0),
    "hold the write lock": ((), 0.2, 3.0),
    "hold the database": ((), 0.2, 2.0),
    "start a second worker": (("kill", "terminate"), 2.0, 5.0),
    "skew the clock": (tuple(map(str, SHIFTS)), 1.0, 4.0),
}
"""Kind → its processes or values, and its shortest and longest duration."""
