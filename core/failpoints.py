"""Failpoints: named places where a test can make a process die, fail, wait or stop, to check that no money is lost.

All are off, and cost only a comparison with None, unless `GIRO_FAILPOINTS` is in the environment of the process. It is
not a setting: neither `.env` nor a secret file can switch one on. docs/reference/failpoints.md lists its values.
"""

import math
import os
import random  # nosemgrep: unguessable-values-use-secrets - faults of tests
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "GIRO_FAILPOINTS"

POINTS = {
    "accept.before_write": "The lock is held, and nothing of a group is written yet.",
    "accept.before_commit": "A group is written and not committed.",
    "accept.after_commit": "A group is on disk. No client has its answer yet, and no wake-up has been asked for.",
    "wakeup.before_send": "A wake-up is about to be sent.",
    "wakeup.between": "The key that holds back other wake-ups is set, but the message is not sent.",
    "wakeup.after_send": "A wake-up is on its way.",
    "settle.before_write": "Pending transfers are read, and nothing is written.",
    "settle.between_writes": "The legs are written, but the transfers are still pending.",
    "settle.before_commit": "Legs, transfers and balances are written and not committed.",
    "settle.after_commit": "A unit of work is on disk, but not in the logs and the metrics yet.",
    "settle.before_ack": "Everything is settled, but the message is not acknowledged.",
    "months.before_commit": "Months are closed and not committed.",
    "statements.before_write": "Statements are computed but not written.",
    "statements.between_writes": "Statements are written, but their group is not marked as done.",
    "statements.before_ack": "Statements are on disk, but the message is not acknowledged.",
    "documents.before_commit": "The file of a document is on disk, but the document is not marked as made.",
    "backup.before_names": "A backup is complete and verified, but its files do not have their names yet.",
    "backup.between_names": "The other files of a backup have their names, but the database does not.",
    "ship.before_backup": "A series of shipments has begun, and its backup is not made yet.",
    "ship.captured": "Pages of the log are captured, and nothing of their shipment is on disk.",
    "ship.before_name": "A shipment is on disk, but does not have its name yet.",
    "ship.after_name": "A shipment has its name.",
    "migrate.before_commit": "Migrations, or a part of a long one, are done and not committed.",
    "migrate.after_commit": "Migrations, or a part of a long one, are on disk.",
}
"""Every place, and the state of the work there."""

CLOCK = "clock"
"""The target of `shift`: the clock of core/clock.py. It is not a place."""

ACTIONS = {
    "exit": "The process kills itself (SIGKILL).",
    "raise": "The place raises an unexpected exception.",
    "stop": "The process stops itself (SIGSTOP), even if it holds a lock.",
    "delay": "The place takes the given number of milliseconds longer.",
    "shift": "The clock is wrong by the given number of milliseconds.",
}
_WITH_MILLISECONDS = ("delay", "shift")


class StruckError(Exception):
    """The exception that a failpoint raises."""


@dataclass(slots=True)
class _Rule:
    """The action at one place, and how often it happens."""

    action: str
    ms: int = 0
    chance: float = 1.0
    left: float = math.inf
    """How many more times it happens in this process."""

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
            # The signal goes to this thread: another thread might take it after this one has passed the place.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


class _Switchboard:
    """The rules, from the variable itself or from a file that is read again when it has changed."""

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
    """Switch on the failpoints in `text` (as in `GIRO_FAILPOINTS`), or all off. Raises ValueError if it is invalid."""
    global _board  # noqa: PLW0603 - a switch of the whole process, so that `hit` is cheap where it is off
    _board = _Switchboard(text) if text else None


def armed() -> str | None:
    """Return the text that was passed to `arm`. Normally None."""
    return _board.text if _board else None


def hit(point: str) -> None:
    """Pass a place of `POINTS`."""
    if _board is not None:
        _board.hit(point)


def clock_shift_us() -> int:
    """Return how far to shift the clock, in microseconds."""
    return 0 if _board is None else _board.shift_us()


def parse(text: str) -> dict[str, _Rule]:
    """Read items `POINT=ACTION[:MILLISECONDS][:HOW_OFTEN]`, separated by commas or line breaks. Raises ValueError."""
    items = (item.strip() for item in text.replace("\n", ",").split(","))
    return dict(_parse_one(item) for item in items if item)


def _parse_one(item: str) -> tuple[str, _Rule]:
    point, _, said = item.partition("=")
    action, *numbers = said.split(":")
    if point not in POINTS and point != CLOCK:
        raise ValueError(f"{point} is not a failpoint")
    if action not in ACTIONS or (action == "shift") != (point == CLOCK):
        raise ValueError(f"{action!r} is not an action that is possible at {point}")
    rule = _Rule(action)
    try:
        if action in _WITH_MILLISECONDS:
            rule.ms = int(numbers.pop(0))
        if numbers and "." in numbers[0]:
            rule.chance = float(numbers.pop(0))
        elif numbers:
            rule.left = int(numbers.pop(0))
    except (IndexError, ValueError):
        raise ValueError(f"{item}: a number is missing or invalid") from None
    if numbers:
        raise ValueError(f"{item}: too many numbers")
    return point, rule
