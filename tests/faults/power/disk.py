"""A model of a disk: it replays what a service did, tracks what is synced, and returns what a power cut may leave.

Synced data stays. Any other write may survive or not, in any order, whole or in part, because a disk writes sectors.
A file may have grown and contain zeros where its new bytes belong. Names of the folder are added and removed in the
original order, as in file systems with a journal.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from tests.faults.power.record import Answer, Event, Remove, Sync, Truncate, Write

SECTOR = 512
"""Bytes that a disk writes completely or not at all."""

type Files = dict[str, bytes]
type Change = Write | Truncate


@dataclass(slots=True)
class _File:
    """A file, independent of its name: its synced content and its pending changes."""

    synced: bytes = b""
    pending: list[Change] = field(default_factory=list)

    def with_changes(self, changes: Sequence[Change]) -> bytes:
        """Return its bytes if exactly these pending changes reached the disk."""
        if not changes:
            return self.synced
        content = bytearray(self.synced)
        for change in changes:
            end = change.length if isinstance(change, Truncate) else change.offset + len(change.data)
            content.extend(bytes(max(0, end - len(content))))
            if isinstance(change, Truncate):
                del content[change.length :]
            else:
                content[change.offset : end] = change.data
        return bytes(content)

    def sync(self, since: int) -> None:
        """Move what was written before `since` to the disk."""
        self.synced = self.with_changes([change for change in self.pending if change.at < since])
        self.pending = [change for change in self.pending if change.at >= since]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A name that was given to a file or removed."""

    at: int
    name: str
    file: _File | None


@dataclass(frozen=True, slots=True)
class _Way:
    """One possible outcome of a cut: the number of surviving pending names, and the surviving changes of one file."""

    names: int
    file: _File | None
    changes: Sequence[Change]

    def changes_of(self, file: _File, *, everything_else: bool) -> Sequence[Change]:
        """Return a file's surviving changes; of all other files, all changes survive or none do."""
        if file is self.file:
            return self.changes
        return file.pending if everything_else else []


class Disk:
    """The files of one folder."""

    def __init__(self, files: Files) -> None:
        """`files` are on disk from the start."""
        self._names = {name: _File(synced=content) for name, content in files.items()}
        self._entries: list[_Entry] = []

    def do(self, event: Event) -> None:
        """Apply what the service did."""
        match event:
            case Write() | Truncate():
                self._file(event).pending.append(event)
            case Remove():
                self._entries.append(_Entry(event.at, event.name, None))
            case Sync(name=None):
                self._sync_names(event.since)
            case Sync():
                self._file(event).sync(event.since)
            case Answer():
                pass

    def seen(self) -> Files:
        """Return the files as the service sees them, with all changes."""
        files = self._named(len(self._entries))
        return {name: file.with_changes(file.pending) for name, file in files.items()}

    def after_a_cut(self, dice: random.Random, most: int) -> Iterator[Files]:
        """Yield what a cut may leave now: only synced data, everything, and up to `most` states in between."""
        yield self._left(0, lambda _file: [])
        yield self.seen()
        counts = range(len(self._entries) + 1)
        files = {id(file): file for count in counts for file in self._named(count).values()}
        ways: list[_Way] = [
            _Way(dice.choice(counts), file, changes) for file in files.values() for changes in _some(file.pending, dice)
        ]
        ways += [_Way(count, None, []) for count in counts[1:-1]]
        for way in dice.sample(ways, min(most, len(ways))):
            everything_else = dice.choice((True, False))
            yield self._left(way.names, partial(way.changes_of, everything_else=everything_else))

    def _left(self, names: int, changes_of: Callable[[_File], Sequence[Change]]) -> Files:
        return {name: file.with_changes(changes_of(file)) for name, file in self._named(names).items()}

    def _named(self, count: int) -> dict[str, _File]:
        """Return the files by name if the first `count` pending names reached the disk."""
        files = dict(self._names)
        for entry in self._entries[:count]:
            if entry.file is None:
                files.pop(entry.name, None)
            else:
                files[entry.name] = entry.file
        return files

    def _file(self, event: Write | Truncate | Sync) -> _File:
        """Return the file with this name, or a new one."""
        assert event.name is not None
        file = self._named(len(self._entries)).get(event.name)
        if file is None:
            file = _File()
            self._entries.append(_Entry(event.at, event.name, file))
        return file

    def _sync_names(self, since: int) -> None:
        synced = [entry for entry in self._entries if entry.at < since]
        self._names = self._named(len(synced))
        self._entries = self._entries[len(synced) :]


def _some(pending: Sequence[Change], dice: random.Random) -> list[Sequence[Change]]:
    """Return partial outcomes of a file's pending changes: each one alone, some, torn ones, a length without bytes."""
    if not pending:
        return []
    some = [change for change in pending if dice.random() < 0.5]
    torn = [part for change in pending for part in _sectors(change) if dice.random() < 0.5]
    last = [*pending[:-1], *(part for part in _sectors(pending[-1]) if dice.random() < 0.5)]
    return [*([change] for change in pending), some, torn, last, [_without_bytes(change) for change in pending]]


def _sectors(change: Change) -> list[Change]:
    """Split a write into sectors."""
    if isinstance(change, Truncate):
        return [change]
    end = change.offset + len(change.data)
    edges = [change.offset, *range(change.offset // SECTOR * SECTOR + SECTOR, end, SECTOR), end]
    return [
        Write(change.at, change.name, start, change.data[start - change.offset : stop - change.offset])
        for start, stop in pairwise(edges)
    ]


def _without_bytes(change: Change) -> Change:
    """A write of which only the file's new length reached the disk."""
    return (
        change if isinstance(change, Truncate) else Write(change.at, change.name, change.offset + len(change.data), b"")
    )
