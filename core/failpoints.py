"""Failpoints: named places where a process can be made to die, fail, dawdle or stop, to see what becomes of the money.

All are off, and cost the comparison with None, unless `GIRO_FAILPOINTS` is in the environment of the process. That is
no setting: neither `.env` nor a file of secrets can switch one on. docs/reference/failpoints.md lists what it can say.
"""

import math
import os
import random  # nosemgrep: chance-that-matters-is-secret - faults of tests
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "GIRO_FAILPOINTS"

POINTS = {
    "accept.before_write": "The lock is held, nothing of a group is written yet.",
    "accept.before_commit": "A group is written and not committed.",
    "accept.after_commit": "A group is on disk; nobody has been told, and no wake-up is asked for.",
    "wakeup.before_send": "A wake-up is to be sent.",
    "wakeup.between": "The key that holds other wake-ups back is set, the message is not sent.",
    "wakeup.after_send": "A wake-up is on its way.",
    "settle.before_write": "Pending transfers are read, nothing of them is written.",
    "settle.between_writes": "The legs are written, the transfers are still pending.",
    "settle.before_commit": "Legs, transfers and balances are written and not committed.",
    "settle.after_commit": "A unit of work is on disk; neither logs nor metrics know it.",
    "settle.before_ack": "Everything is settled, the message is not acknowledged.",
    "months.before_commit": "Months are closed and not committed.",
    "statements.before_write": "Statements are computed, none is written.",
    "statements.between_writes": "Statements are written, their group is not marked as done.",
    "statements.before_ack": "Statements are on disk, the message is not acknowledged.",
    "backup.before_names": "A backup is whole and verified, and nothing of it has its name.",
    "backup.between_names": "What belongs to a backup has its name, the database has none.",
}
"""Every place, and how things stand there."""

CLOCK = "clock"
"""What `shift` acts on: the clock of core/clock.py, which is no place."""

ACTIONS = {
    "exit": "The process kills itself (SIGKILL).",
    "raise": "The place raises an exception that nobody expects.",
    "stop": "The process stops itself (SIGSTOP), whatever it holds.",
    "delay": "The place takes so many milliseconds longer.",
    "shift": "The clock goes wrong by so many milliseconds.",
}
_WITH_MILLISECONDS = ("delay", "shift")


class StruckError(Exception):
    """What a failpoint raises."""


@dataclass(slots=True)
class _Rule:
    """What happens at one place, and how often."""

    action: str
    ms: int = 0
    chance: float = 1.0
    left: float = math.inf
    """Times that it still happens in this process."""

    def is_due(self) -> bool:
        if self.left <= 0 or random.random() >= self.chance:  # nosec B311 # faults of tests
            return False
        self.left -= 1
        return True

    def happen(self, point: str) -> None:
        if self.action == "delay":
            time.sleep(self.ms / 1000)
        elif self.action == "raise":
            raise StruckError(point)
        elif self.action == "exit":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            # To this thread: sent to the process, another thread may take it, and this one has long passed the place.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


class _Switchboard:
    """The rules, from the variable itself or from a file that is read anew when it has changed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._file = Path(text[1:]) if text.startswith("@") else None
        self._version: tuple[int, int] | None = None
        self._rules = {} if self._file else parse(text)
        self._look()

    def hit(self, point: str) -> None:
        rule = self._look().get(point)
        if rule is not None and rule.is_due():
            rule.happen(point)

    def shift_us(self) -> int:
        rule = self._look().get(CLOCK)
        return rule.ms * 1000 if rule else 0

    def _look(self) -> dict[str, _Rule]:
        if self._file is not None:
            try:
                status = self._file.stat()
                version = (status.st_mtime_ns, status.st_ino)
                if version != self._version:
                    self._rules, self._version = parse(self._file.read_text()), version
            except FileNotFoundError:
                self._rules, self._version = {}, None
        return self._rules


_board: _Switchboard | None = None


def arm(text: str | None) -> None:
    """Switch on what `GIRO_FAILPOINTS` says in this process, or everything off; raises ValueError if it is wrong."""
    global _board  # noqa: PLW0603 - a switch of the whole process, so that `hit` is cheap where it is off
    _board = _Switchboard(text) if text else None


def armed() -> str | None:
    """What was switched on, as it was written; None as a rule."""
    return _board.text if _board else None


def hit(point: str) -> None:
    """Pass a place of `POINTS`."""
    if _board is not None:
        _board.hit(point)


def clock_shift_us() -> int:
    """How far the clock is to be wrong, in microseconds."""
    return 0 if _board is None else _board.shift_us()


def parse(text: str) -> dict[str, _Rule]:
    """Read `POINT=ACTION[:MILLISECONDS][:HOW_OFTEN]`, separated by commas or lines; raises ValueError."""
    items = (item.strip() for item in text.replace("\n", ",").split(","))
    return dict(_parse_one(item) for item in items if item)


def _parse_one(item: str) -> tuple[str, _Rule]:
    point, _, said = item.partition("=")
    action, *numbers = said.split(":")
    if point not in POINTS and point != CLOCK:
        raise ValueError(f"{point} is no failpoint")
    if action not in ACTIONS or (action == "shift") != (point == CLOCK):
        raise ValueError(f"{action!r} is nothing that can happen at {point}")
    rule = _Rule(action)
    try:
        if action in _WITH_MILLISECONDS:
            rule.ms = int(numbers.pop(0))
        if numbers and "." in numbers[0]:
            rule.chance = float(numbers.pop(0))
        elif numbers:
            rule.left = int(numbers.pop(0))
    except (IndexError, ValueError):
        raise ValueError(f"{item}: a number is missing or is none") from None
    if numbers:
        raise ValueError(f"{item}: there is one number too many")
    return point, rule
