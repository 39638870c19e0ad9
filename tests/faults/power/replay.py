"""Cuts the power again and again: plays a record on a disk, and has what each cut leaves examined."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.power.check import Examiner, Ledger, Told, judge
from tests.faults.power.disk import Disk, Files
from tests.faults.power.record import Answer, Event, Sync

GOES_ON_AFTER = 25
"""Of so many states that were examined, one is brought to work again."""
GOES_ON = "goes_on"
MOST_FINDINGS = 20
"""Findings of each check that are kept: a service that loses answers loses them at nearly every cut."""


@dataclass
class Result:
    """What was cut, and what was found."""

    operations: int = 0
    syncs: int = 0
    accepted: int = 0
    ended: int = 0
    """Transfers that a client was told have ended."""
    cuts: int = 0
    left: int = 0
    """States that the cuts left, and how many of them differ."""
    opened: int = 0
    went_on: int = 0
    findings: dict[str, list[str]] = field(default_factory=dict)
    lossy_cuts: int = 0
    most_lost: int = 0
    """Cuts that lost a transfer that was answered 202, and how many the worst of them lost."""

    @property
    def holds(self) -> bool:
        return not any(self.findings.values())


class Replay:
    """One record, and the cuts that it is replayed for."""

    def __init__(self, files: Files, events: Sequence[Event], folder: Path, *, seed: int = 1) -> None:
        """`files` are what was on disk when the record began; `folder` is where what is left is opened."""
        self._files, self._events = files, events
        self._dice = random.Random(seed)
        self._examiner = Examiner(folder)
        self._whole = self._examiner.look(self.everything())
        self.result = Result(
            operations=sum(not isinstance(event, Answer) for event in events),
            syncs=sum(isinstance(event, Sync) for event in events),
        )

    def everything(self) -> Files:
        """The files as they are when all of the record is done."""
        disk = Disk(self._files)
        for event in self._events:
            disk.do(event)
        return disk.seen()

    def run(self, *, cuts: int, ways: int) -> Result:
        """Cut the power around each sync and each answer, and at `cuts` more places, chosen by the seed.

        Each cut leaves nothing of what is not synced, all of it, and up to `ways` things in between.
        """
        chosen, disk, told = self._places(cuts), Disk(self._files), Told()
        for place, event in enumerate(self._events):
            if place in chosen:
                self._cut(disk, told, ways)
            disk.do(event)
            if isinstance(event, Answer):
                told.hear(event)
        self._cut(disk, told, ways)
        self.result.accepted, self.result.ended = len(told.accepted), len(told.ended)
        self.result.opened = self._examiner.opened
        return self.result

    def _places(self, cuts: int) -> set[int]:
        """Before which events the power is cut."""
        moments = [place for place, event in enumerate(self._events) if isinstance(event, Sync | Answer)]
        chosen = {*moments, *(place + 1 for place in moments)}
        others = [place for place in range(len(self._events)) if place not in chosen]
        return chosen | set(self._dice.sample(others, min(cuts, len(others))))

    def _cut(self, disk: Disk, told: Told, ways: int) -> None:
        self.result.cuts += 1
        lost = 0
        for files in disk.after_a_cut(self._dice, ways):
            self.result.left += 1
            opened = self._examiner.opened
            left = self._examiner.look(files)
            self._note(judge(left, self._whole, told))
            lost = max(lost, len(told.accepted - left.endings.keys()))
            if self._examiner.opened > opened and opened % GOES_ON_AFTER == 0 and not left.wrong:
                self._go_on(files, left)
        self.result.lossy_cuts += lost > 0
        self.result.most_lost = max(self.result.most_lost, lost)

    def _go_on(self, files: Files, left: Ledger) -> None:
        """See the service go on with what was left: all that was pending ends, and nothing else changes."""
        self.result.went_on += 1
        later = self._examiner.go_on(files)
        found = [
            f"{transfer} was {was}, and then {later.endings[transfer]}"
            for transfer, was in left.endings.items()
            if was not in (None, later.endings[transfer])
        ]
        found += [f"{transfer} stays pending" for transfer, ending in later.endings.items() if ending is None]
        self._note({GOES_ON: later.wrong + found})

    def _note(self, findings: dict[str, list[str]]) -> None:
        for check, found in findings.items():
            for one in found:
                known = self.result.findings.setdefault(check, [])
                if len(known) < MOST_FINDINGS and one not in known:
                    known.append(one)
