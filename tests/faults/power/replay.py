"""Cuts the power many times: replays a record on the disk model, and examines the state after each cut."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.power.check import Examiner, Ledger, Told, judge
from tests.faults.power.disk import Disk, Files
from tests.faults.power.record import Answer, Event, Sync

GOES_ON_AFTER = 25
"""The service is continued on one of this many examined states."""
GOES_ON = "goes_on"
MOST_FINDINGS = 20
"""Maximum number of findings stored for each check: a service that loses answers loses them at nearly every cut."""


@dataclass
class Result:
    """The figures and findings of a replay."""

    operations: int = 0
    syncs: int = 0
    accepted: int = 0
    ended: int = 0
    """Transfers that a client was told have ended."""
    cuts: int = 0
    left: int = 0
    """States after the cuts, and how many of them differ."""
    opened: int = 0
    went_on: int = 0
    findings: dict[str, list[str]] = field(default_factory=dict)
    lossy_cuts: int = 0
    most_lost: int = 0
    """Cuts that lost a transfer answered 202, and the largest number that one cut lost."""

    @property
    def holds(self) -> bool:
        return not any(self.findings.values())


class Replay:
    """Replays one record with cuts."""

    def __init__(self, files: Files, events: Sequence[Event], folder: Path, *, seed: int = 1) -> None:
        """`files` are the files at the start of the record; states after cuts are opened in `folder`."""
        self._files, self._events = files, events
        self._dice = random.Random(seed)
        self._examiner = Examiner(folder)
        self._whole = self._examiner.look(self.everything())
        self.result = Result(
            operations=sum(not isinstance(event, Answer) for event in events),
            syncs=sum(isinstance(event, Sync) for event in events),
        )

    def everything(self) -> Files:
        """Return the files after the whole record."""
        disk = Disk(self._files)
        for event in self._events:
            disk.do(event)
        return disk.seen()

    def run(self, *, cuts: int, ways: int) -> Result:
        """Cut the power around each sync and each answer, and at `cuts` more places, chosen by the seed.

        Each cut is examined with no unsynced data, with all of it, and with up to `ways` states in between.
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
        """Return the events before which the power is cut."""
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
        """Check that the service continues on this state: all pending transfers end, and nothing else changes."""
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
