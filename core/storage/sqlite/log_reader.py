"""A process that reads SQLite's write-ahead log: `python -m core.storage.sqlite.log_reader DATABASE`.

It opens the log and its index as files. That must be a process without SQLite connections to the database, because
closing such a descriptor drops all of the process's locks on the file. The formats: sqlite.org/walformat.html.

It answers each line on its input with a line of JSON (core/storage/sqlite/log.py is the other side):

- `start` and a position: continue from there if the log still has it, otherwise begin at the log's end.
- `read`: read what was committed since, check it, and collect its pages. Of a page that was written more often, the
  newest is kept.
- `tail`: only read it.
- `pinned`: all of the log was read, so SQLite may begin the log again, once.
- `take`: pass on what was collected, after the line.
"""

import json
import os
import struct
import sys
import time
from dataclasses import asdict, dataclass
from math import sumprod
from typing import Any, BinaryIO, NamedTuple

INDEX_HEADER = struct.Struct("=IIIBBHII II 8s II")
LOG_HEADER_BYTES = 32
FRAME_HEADER = struct.Struct(">II8sII")
NUMBER = struct.Struct(">I")
INDEX_VERSION = 3007000
ATTEMPTS = 1000
MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the log: after so many frames of the log with these salts, and with this checksum."""

    salts: str
    frame: int
    checksum: tuple[int, int]


class Gap(Exception):
    """The log no longer has what follows the last position."""


@dataclass(frozen=True, slots=True)
class _Index:
    """The header of the log's index: what is committed."""

    big_endian: bool
    page_size: int
    frames: int
    pages: int
    position: Position


class _Frame(NamedTuple):
    """A frame of the log. Page 0 stands for the beginning of a log, whose checksum is that of its header."""

    page: int
    text: bytes
    """The first eight bytes of the header, and the page."""
    salts: str
    checksum: tuple[int, int]


class _Checksums:
    """The log's checksum of frames, computed as a sum of products, because its own definition is a slow loop."""

    def __init__(self, page_size: int, *, big_endian: bool) -> None:
        pairs = (8 + page_size) // 8
        self._words = struct.Struct(f"{'>' if big_endian else '<'}{2 * pairs}I")
        weights: tuple[list[int], list[int]] = ([], [])
        first, second = (1, 1), (0, 1)  # what the words of the last pair add to both sums
        self._ahead = [(1, 0), (0, 1)]
        for _ in range(pairs):
            for sums, a, b in zip(weights, first, second, strict=True):
                sums += [b, a]
            first, second = _step(first), _step(second)
            self._ahead = [_step(state) for state in self._ahead]
        for sums in weights:
            sums.reverse()
        # Halves, so that no product exceeds a C long.
        self._halves = [([weight & 0xFFFF for weight in sums], [weight >> 16 for weight in sums]) for sums in weights]

    def after(self, before: tuple[int, int], frame: bytes) -> tuple[int, int]:
        """Return the checksum after the first eight bytes of a frame's header and its page."""
        words = self._words.unpack(frame)
        carried = [sum(state[place] * before[n] for n, state in enumerate(self._ahead)) for place in (0, 1)]
        sums = [
            (carry + int(sumprod(words, low)) + (int(sumprod(words, high)) << 16)) & MASK
            for carry, (low, high) in zip(carried, self._halves, strict=True)
        ]
        return sums[0], sums[1]


def _step(state: tuple[int, int]) -> tuple[int, int]:
    return (state[0] + state[1]) & MASK, (state[0] + 2 * state[1]) & MASK


class LogReader:
    """Collects committed pages from the log of one database."""

    def __init__(self, database: str) -> None:
        # nosemgrep: the-database-is-never-opened-as-a-file - without connections here
        self._index = os.open(f"{database}-shm", os.O_RDONLY)
        # nosemgrep: the-database-is-never-opened-as-a-file - without connections here
        self._log = os.open(f"{database}-wal", os.O_RDONLY)
        self._collected: dict[int, bytes] = {}
        self._unchecked: list[_Frame] = []
        self._position = self._committed().position
        self._checksum = self._position.checksum
        self._may_begin_again = False
        self._sums: _Checksums | None = None

    def start(self, wanted: Position | None) -> dict[str, Any]:
        """Begin at a position, or at the log's end."""
        index = self._committed()
        continues = wanted is not None and self._has(index, wanted)
        self._position = wanted if continues and wanted is not None else index.position
        self._checksum = (self._position.checksum[0], self._position.checksum[1])
        return {"continues": continues, "position": asdict(self._position)}

    def tail(self) -> dict[str, Any]:
        """Read the frames that were committed since the last position, quickly: writers may wait. Raises Gap."""
        index = self._committed()
        if index.position.salts != self._position.salts:
            self._begin_again(index)
        frame = self._position.frame
        if index.frames < frame:
            raise Gap("the log has become shorter")
        if index.frames and self._sums is None:  # an empty log does not tell the size of a page yet
            self._sums = _Checksums(index.page_size, big_endian=index.big_endian)
        for number in range(frame, index.frames):
            found = self._frame(number, index.page_size)
            if found.salts != index.position.salts:
                raise Gap(f"frame {number + 1} of the log is damaged")
            self._unchecked.append(found)
        if index.frames > frame:
            self._may_begin_again = False
            self._position = index.position
        return {"position": asdict(self._position), "pages": index.pages, "page_size": index.page_size}

    def read(self) -> dict[str, Any]:
        """Read the frames that were committed since, check them, and collect their pages. Raises Gap."""
        found = self.tail()
        self._collect()
        return {**found, "collected": len(self._collected)}

    def _collect(self) -> None:
        """Check the frames read so far, each by the one before it, and the last by the index."""
        for frame in self._unchecked:
            if frame.page and self._sums is not None:
                self._checksum = self._sums.after(self._checksum, frame.text)
                self._collected[frame.page] = frame.text[8:]
            else:
                self._checksum = frame.checksum
            if self._checksum != frame.checksum:
                raise Gap(f"page {frame.page} is damaged in the log")
        self._unchecked.clear()
        if self._position.frame and self._checksum != self._position.checksum:
            raise Gap("the log does not match its index")

    def pinned(self) -> dict[str, Any]:
        """Note that SQLite may begin the log again once, since all of it was read."""
        self._may_begin_again = True
        return {}

    def take(self, output: BinaryIO) -> None:
        """Pass on the collected pages, each after its number. Raises Gap."""
        self._collect()
        body = b"".join(NUMBER.pack(page) + self._collected[page] for page in sorted(self._collected))
        self._collected = {}
        output.write(json.dumps({"size": len(body)}).encode() + b"\n" + body)

    def _begin_again(self, index: _Index) -> None:
        if not self._may_begin_again:
            raise Gap("SQLite began the log again before all of it was read")
        self._may_begin_again = False
        header = os.pread(self._log, LOG_HEADER_BYTES, 0)
        first, second = struct.unpack(">II", header[24:32]) if index.frames else (0, 0)
        self._position = Position(index.position.salts, 0, (first, second))
        self._unchecked.append(_Frame(0, b"", index.position.salts, (first, second)))  # where the next frames begin
        if not index.frames:
            self._may_begin_again = True  # its first writer may still choose other salts

    def _has(self, index: _Index, wanted: Position) -> bool:
        if wanted.salts != index.position.salts or not 0 < wanted.frame <= index.frames:
            return False
        last = self._frame(wanted.frame - 1, index.page_size)
        return (last.salts, last.checksum) == (wanted.salts, tuple(wanted.checksum))

    def _frame(self, number: int, page_size: int) -> "_Frame":
        size = FRAME_HEADER.size + page_size
        text = os.pread(self._log, size, LOG_HEADER_BYTES + number * size)
        if len(text) < size:
            raise Gap("the log ends in the middle of a frame")
        page, _commit, salts, first, second = FRAME_HEADER.unpack_from(text)
        return _Frame(page, text[:8] + text[FRAME_HEADER.size :], salts.hex(), (first, second))

    def _committed(self) -> _Index:
        """Read the index's header, which SQLite writes twice, so that a reader can tell a half-written one."""
        for _ in range(ATTEMPTS):
            text = os.pread(self._index, 2 * INDEX_HEADER.size, 0)
            if text[: INDEX_HEADER.size] == text[INDEX_HEADER.size :] and len(text) == 2 * INDEX_HEADER.size:
                version, _, _, is_made, big, size, frames, pages, *sums, salts, _, _ = INDEX_HEADER.unpack_from(text)
                if version == INDEX_VERSION and is_made:
                    # 65536 does not fit into the field and is written as 1.
                    position = Position(salts.hex(), frames, (sums[0], sums[1]))
                    return _Index(bool(big), 65536 if size == 1 else size, frames, pages, position)
            time.sleep(0.001)
        raise Gap("the index of the log cannot be read")


def answer_of(reader: LogReader, word: str, rest: str) -> dict[str, Any]:
    """Carry out one command."""
    if word == "start":
        given = json.loads(rest) if rest else None
        return reader.start(given and Position(given["salts"], given["frame"], tuple(given["checksum"])))
    return {"read": reader.read, "tail": reader.tail, "pinned": reader.pinned}[word]()


def main() -> None:
    """Answer the commands of another process until its end is closed."""
    reader = LogReader(sys.argv[1])
    output = sys.stdout.buffer
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        try:
            if word == "take":
                reader.take(output)
            else:
                output.write(json.dumps(answer_of(reader, word, rest)).encode() + b"\n")
        except Gap as gap:
            output.write(json.dumps({"gap": str(gap)}).encode() + b"\n")
        output.flush()


if __name__ == "__main__":
    main()
