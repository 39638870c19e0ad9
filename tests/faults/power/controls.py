"""Controls: the record of a service that syncs less. Power cuts of it must lose something, and the checks must notice.

If they find nothing there, they prove nothing elsewhere. The record is a real one, and lacks what SQLite leaves out.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from tests.faults.power.disk import Files
from tests.faults.power.record import DATABASE, Answer, Event, Sync, Truncate, Write
from tests.faults.power.replay import Replay, Result

LOG = f"{DATABASE}-wal"
ANSWERS = 60
"""Answers after which a control ends: it takes seconds, and the loss shows in the first ones."""


def synchronous_normal(events: Sequence[Event]) -> list[Event]:
    """Leave out the syncs of commits. The log is synced only before a checkpoint writes the database."""

    def is_kept(place: int) -> bool:
        later = (event for event in islice(events, place + 1, None) if isinstance(event, Write | Truncate))
        following = next(later, None)
        return isinstance(following, Write) and following.name == DATABASE

    return [
        event
        for place, event in enumerate(events)
        if not isinstance(event, Sync) or event.name != LOG or is_kept(place)
    ]


def synchronous_off(events: Sequence[Event]) -> list[Event]:
    """Leave out all syncs, those of the database and of names too."""
    return [event for event in events if not isinstance(event, Sync)]


def answers_before_their_sync(events: Sequence[Event]) -> list[Event]:
    """Move each answer before the last write that precedes it: the service answers, and then writes and syncs."""
    moved: list[Event] = []
    for event in events:
        writes = [place for place, earlier in enumerate(moved) if isinstance(earlier, Write)]
        moved.insert(writes[-1] if isinstance(event, Answer) and writes else len(moved), event)
    return moved


CONTROLS: dict[str, Callable[[Sequence[Event]], list[Event]]] = {
    "synchronous=NORMAL": synchronous_normal,
    "synchronous=OFF": synchronous_off,
    "answers before the write": answers_before_their_sync,
}


def cut(control: str, before: Files, events: Sequence[Event], folder: Path, *, seed: int = 1) -> Result:
    """Cut the power of a control around each of its first answers, and return the result, which must not hold."""
    places = [place for place, event in enumerate(events) if isinstance(event, Answer)]
    return Replay(before, CONTROLS[control](events[: places[:ANSWERS][-1] + 1]), folder, seed=seed).run(cuts=0, ways=1)
