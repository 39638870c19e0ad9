"""Whether health says what is true: a watcher asks all the time, and its answers are compared with the faults."""

import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2

from api.schemas.health import Health
from core.clock import now_us
from core.processes import heartbeats
from tests.builders import WHOLE_TRANSFERS

ASK_SECONDS = 0.2
TIMEOUT_SECONDS = 4.0

SEEN_SECONDS = 5.0
"""Health names a fault of the queue or of the disk within this time."""

PENDING_SECONDS = 10.0
"""A transfer that waits longer makes the service degraded."""

HEALED_SECONDS = 10.0
"""Health is ok again this long after the last fault."""

EDGE_SECONDS = 1.0
"""An answer this close to the limit may be either: beginning and ending a fault takes time, and so does an answer."""

START_SECONDS = 10.0
RESTARTS = ("start again", "kill everything", "make the disk read-only")
"""After these the whole service starts again, which takes some seconds more on a busy machine."""

LOST_SECONDS = 20.0
"""Time in which a process that was killed may still be missing: after several deaths in a row, the supervisor waits for
up to ten seconds before it starts one again."""

PROCESSES = ("settlement", "jobs", "scheduler")
SILENT_SECONDS = 5
"""Age of a heartbeat after which its process counts as lost."""
BACK_SECONDS = 3.0
"""Time until health knows that a process is back."""

SKEW = "skew the clock"

PROMISES: dict[str, tuple[Health, float]] = {
    "break the queue: full": (Health.DEGRADED, SEEN_SECONDS),
    "break the queue: a replica that cannot be written": (Health.DEGRADED, SEEN_SECONDS),
    "break the queue: keys of another type": (Health.DEGRADED, SEEN_SECONDS),
    "take the queue away": (Health.DEGRADED, SEEN_SECONDS),
    "stop and continue: valkey": (Health.DEGRADED, SEEN_SECONDS),
    "failpoint: settle.before_write=raise": (Health.DEGRADED, PENDING_SECONDS + SEEN_SECONDS),
    "fill the disk": (Health.UNAVAILABLE, SEEN_SECONDS),
    "make the disk read-only": (Health.UNAVAILABLE, SEEN_SECONDS),
}
"""Fault → the least that health must say, and within how many seconds."""

_ORDER = list(Health)


@dataclass(slots=True)
class Span:
    """The time of one fault, in monotonic seconds."""

    name: str
    began: float
    ended: float = float("inf")


@dataclass(frozen=True, slots=True)
class Answer:
    """What health said, and how long the oldest pending transfer had waited then."""

    asked_at: float
    answered_at: float
    status: Health | None
    """None: there was no answer."""
    ready: bool
    waited: float = 0.0
    lost: tuple[str, ...] = ()
    """The processes that were not there, by their heartbeats."""


class Watcher(threading.Thread):
    """Asks for the health of a service until it is told to stop."""

    def __init__(self, url: str, data: Path) -> None:
        super().__init__(name="watcher", daemon=True)
        self.answers: list[Answer] = []
        self._http = httpx2.Client(base_url=url, trust_env=False, timeout=TIMEOUT_SECONDS)
        self._database, self._run_dir = data / "banking.db", data / "run"
        self._oldest: tuple[int, float] | None = None
        """The oldest pending transfer of the last look, and when it was first seen."""
        self._lost_at: dict[str, float] = {}
        self._enough = threading.Event()

    def stop(self) -> None:
        """Stop after the current question."""
        self._enough.set()
        self.join()
        self._http.close()

    def run(self) -> None:
        while not self._enough.wait(ASK_SECONDS):
            waited, lost, asked_at, status, ready = self._look(), self._lost(), time.monotonic(), None, False
            with suppress(httpx2.TransportError):
                status = Health(self._http.get("/health").json()["status"])
                ready = self._http.get("/health/ready").status_code == 200
            self.answers.append(Answer(asked_at, time.monotonic(), status, ready, waited, lost))

    def _lost(self) -> tuple[str, ...]:
        """The processes that are not there, or came back so lately that health may not know."""
        now = time.monotonic()
        for name in PROCESSES:
            age = heartbeats.age(self._run_dir, name)
            if age is None or age > SILENT_SECONDS:
                self._lost_at[name] = now
        return tuple(name for name, lost_at in self._lost_at.items() if lost_at > now - BACK_SECONDS)

    def _look(self) -> float:
        """Seconds that the oldest pending transfer has waited, by its own time and by ours: clocks may be wrong."""
        row = None
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as file:
            row = file.execute(
                f"SELECT id, created_at FROM {WHOLE_TRANSFERS} WHERE status = 'pending' ORDER BY id LIMIT 1"
            ).fetchone()
        if row is None:
            self._oldest = None
            return 0.0
        if self._oldest is None or self._oldest[0] != row[0]:
            self._oldest = (row[0], time.monotonic())
        return min(time.monotonic() - self._oldest[1], (now_us() - row[1]) / 1e6)


def tells_the_truth(answers: Iterable[Answer], spans: Sequence[Span]) -> list[str]:
    """Health names each fault within the promised time, and says ok once no fault has been on for long."""
    return [wrong for answer in answers for wrong in _wrong(answer, spans)]


def _wrong(answer: Answer, spans: Sequence[Span]) -> Iterable[str]:
    said = f"health said {answer.status or 'nothing'} and {'' if answer.ready else 'not '}ready"
    for reason, least in _reasons(answer, spans):
        # A load balancer takes silence for unavailable.
        if _ORDER.index(answer.status or Health.UNAVAILABLE) < _ORDER.index(least):
            yield f"{said}, not {least}: {reason}"
        elif least is Health.UNAVAILABLE and answer.ready:
            yield f"{said}: {reason}"
        elif least is Health.DEGRADED and answer.status is None:
            yield f"{said}, not {least}: {reason}"
    if _is_quiet(answer, spans) and not (answer.status is Health.OK and answer.ready):
        last = max((span for span in spans if span.ended < answer.asked_at), key=lambda span: span.ended, default=None)
        said += f", lost: {' '.join(answer.lost)}," if answer.lost else ""
        yield f"{said} {answer.asked_at - last.ended:.1f} s after {last.name}" if last else f"{said} before any fault"


def _reasons(answer: Answer, spans: Sequence[Span]) -> Iterable[tuple[str, Health]]:
    """What was wrong for so long that health must have said it."""
    for span in spans:
        if span.name not in PROMISES:
            continue
        least, seconds = PROMISES[span.name]
        since = answer.asked_at - span.began
        if seconds + EDGE_SECONDS < since and answer.answered_at < span.ended and _lasts(span, answer, spans):
            yield f"for {since:.1f} s: {span.name}", least
    skewed = any(span.name.startswith(SKEW) and _touches(span, answer) for span in spans)
    # A fault may have ended the API: then it is silent until it has started again.
    may_start = answer.status is None and any(_touches(span, answer, answer.asked_at - START_SECONDS) for span in spans)
    if answer.waited > PENDING_SECONDS + SEEN_SECONDS and not skewed and not may_start:
        yield f"a transfer waited for {answer.waited:.1f} s", Health.DEGRADED


def _lasts(span: Span, answer: Answer, spans: Sequence[Span]) -> bool:
    """Whether a fault was still on. Another fault may end one of the queue: a killed server has lost it."""
    if PROMISES[span.name][0] is Health.UNAVAILABLE:
        return True
    return not any(other is not span and _touches(other, answer, since=span.began) for other in spans)


def _touches(span: Span, answer: Answer, since: float | None = None) -> bool:
    since = answer.asked_at - SEEN_SECONDS if since is None else since
    return span.began <= answer.answered_at and span.ended >= since


def _is_quiet(answer: Answer, spans: Sequence[Span]) -> bool:
    """Whether no fault has been on for long, no transfer waits for longer than usual, and all processes are back."""
    healed = HEALED_SECONDS + EDGE_SECONDS + (LOST_SECONDS if answer.lost else 0)
    over = (
        span.ended + (START_SECONDS if span.name in RESTARTS else 0)
        for span in spans
        if span.began <= answer.answered_at
    )
    return answer.asked_at > max(over, default=0.0) + healed and answer.waited < EDGE_SECONDS


def detections(answers: Sequence[Answer], spans: Iterable[Span]) -> dict[str, list[float]]:
    """Seconds from the begin of a fault until health named it, by fault, if health was ok before."""
    found: dict[str, list[float]] = defaultdict(list)
    for span in spans:
        if span.name not in PROMISES:
            continue
        before = [answer for answer in answers if answer.answered_at <= span.began]
        if not before or before[-1].status is not Health.OK:
            continue
        least = _ORDER.index(PROMISES[span.name][0])
        named = (
            answer.answered_at - span.began
            for answer in answers
            if answer.asked_at >= span.began
            and answer.answered_at <= span.ended
            and answer.status is not None
            and _ORDER.index(answer.status) >= least
        )
        if (first := next(named, None)) is not None:
            found[span.name].append(first)
    return found
