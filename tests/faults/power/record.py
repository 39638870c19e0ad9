"""A record of a running service's disk calls and of its answers to clients, parsed from strace's output.

strace sees the calls of all processes one by one, so the record has one order. A write or a sync counts from the
moment it returned. An answer counts from the moment its first byte was passed to the kernel: no client knows of it
earlier.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from core.clock import to_us

DATABASE = "banking.db"
KEPT = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-journal")
"""The files that survive a power cut. The log's index (-shm) is made again by the first process that opens it."""

SENDS = ("write", "writev", "sendto", "sendmsg")
SYNCS = ("fsync", "fdatasync")
NAMED = ("truncate", "unlink", "unlinkat", "rename", "renameat", "renameat2")
TRACED = (*SENDS, *SYNCS, *NAMED, "pwrite64", "pwritev", "pwritev2", "ftruncate", "fallocate", "sync_file_range")
"""The recorded calls: all that can change a file (without memory mapping), and all that can send an answer."""

_LINE = re.compile(rb"(\d+) +(?:(\w+)\((.*)|<\.\.\. \w+ resumed>(.*))")
_RESULT = re.compile(rb"\) += (-?\d+)[^=]*$")
_OPENED = re.compile(rb"\d+<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")
_TEXT = re.compile(rb'"((?:\\x[0-9a-f]{2})*)"')
_NUMBER = re.compile(rb"(\d+)$")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_UNFINISHED = b" <unfinished ...>"


class RecordError(Exception):
    """The record contains a disk operation that the replay does not support."""


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes written to a file; a cut may lose them until the file is synced."""

    at: int
    name: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file's new length; a cut may lose it until the file is synced."""

    at: int
    name: str
    length: int


@dataclass(frozen=True, slots=True)
class Remove:
    """A name removed from the folder; a cut may bring it back until the folder is synced."""

    at: int
    name: str


@dataclass(frozen=True, slots=True)
class Sync:
    """The file is on disk as it was when the call began, at `since`. Without a name: the folder's list of names."""

    at: int
    since: int
    name: str | None


type Ending = tuple[str, int, str | None]
"""Status, time in microseconds since the epoch, reason if it failed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a client about a transfer: that it was accepted, or how it ended."""

    at: int
    id: UUID
    accepted: bool
    ended: Ending | None


type Event = Write | Truncate | Remove | Sync | Answer


@dataclass(frozen=True, slots=True)
class _Call:
    """A successful system call; `begun` and `ended` are its first and last line in the record."""

    name: str
    begun: int
    ended: int
    arguments: bytes
    result: int


def read_record(path: Path, folder: Path) -> list[Event]:
    """Read a record: the changes to the database in `folder` and the answers to clients, in order.

    Raises RecordError if the record contains an operation that the replay does not support.
    """
    events: list[Event] = []
    streams: dict[bytes, _Stream] = {}
    for call in _calls(path):
        if (event := _of_disk(call, folder)) is not None:
            events.append(event)
        elif call.name in SENDS and (socket := _socket(call)):
            events += streams.setdefault(socket, _Stream()).take(call.begun, _texts(call)[: call.result])
    return sorted(events, key=lambda event: event.at)


def _calls(path: Path) -> Iterator[_Call]:
    """Join calls that strace split because another process ran in between, and skip failed calls."""
    begun: dict[bytes, tuple[int, bytes, bytes]] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            if (match := _LINE.match(line)) is None:
                continue  # the end of a process
            process, name, arguments, rest = match.groups()
            if name is not None and arguments.endswith(_UNFINISHED):
                begun[process] = number, name, arguments.removesuffix(_UNFINISHED)
                continue
            start, name, arguments = (number, name, arguments) if name else begun.pop(process)
            result = _RESULT.search(arguments if rest is None else rest)
            if result is not None and int(result[1]) >= 0:
                yield _Call(name.decode(), start, number, _RESULT.sub(b"", arguments), int(result[1]))


def _of_disk(call: _Call, folder: Path) -> Event | None:
    """Return what a call did to one of the surviving files or their folder; None if it did nothing to them."""
    path = _path(call)
    if call.name in SYNCS and path == folder:
        return Sync(call.ended, call.begun, None)
    if path is None or path.parent != folder or path.name not in KEPT:
        return None
    match call.name:
        case "pwrite64":
            return Write(call.ended, path.name, _last_number(call), _texts(call)[: call.result])
        case "ftruncate":
            return Truncate(call.ended, path.name, _last_number(call))
        case "fsync" | "fdatasync":
            return Sync(call.ended, call.begun, path.name)
        case "unlink":
            return Remove(call.ended, path.name)
        case _:
            raise RecordError(f"{call.name} on {path.name}: the replay does not support it")


def _path(call: _Call) -> Path | None:
    """Return the file that a call is about; None for a socket or a file without a name."""
    if call.name in NAMED:
        return Path(_bytes(text[1]).decode()) if (text := _TEXT.search(call.arguments)) else None
    opened = _OPENED.match(call.arguments)
    return Path(_bytes(opened[1]).decode()) if opened and not opened[2] else None


def _socket(call: _Call) -> bytes | None:
    opened = _OPENED.match(call.arguments)
    return opened[1] if opened and _bytes(opened[1]).startswith(b"socket:") else None


def _texts(call: _Call) -> bytes:
    return b"".join(_bytes(text) for text in _TEXT.findall(call.arguments))


def _bytes(text: bytes) -> bytes:
    return bytes.fromhex(text.replace(b"\\x", b"").decode())


def _last_number(call: _Call) -> int:
    number = _NUMBER.search(call.arguments)
    assert number is not None
    return int(number[1])


class _Stream:
    """The bytes sent over one connection that do not form a complete answer yet."""

    def __init__(self) -> None:
        self._sent = b""
        self._since = 0

    def take(self, at: int, sent: bytes) -> Iterator[Answer]:
        """Add sent bytes, and yield the answers about transfers that are complete now."""
        if not self._sent:
            self._since = at
        self._sent += sent
        if not b"HTTP/1.1 ".startswith(self._sent[:9]):
            self._sent = b""  # not an answer but a request: to the queue, or from one process to another
        head, end, body = self._sent.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if not end or (length and len(body) < int(length[1])):
            return
        self._sent = b""
        if length and (answer := _answer(self._since, head, body)) is not None:
            yield answer


def _answer(at: int, head: bytes, body: bytes) -> Answer | None:
    """Read an answer as a client would; None if it is not about a transfer."""
    status = int(head.split(b" ", 2)[1])
    if status not in (200, 202):
        return None
    said = json.loads(body)
    if not isinstance(said, dict) or not {"id", "status", "settled_at", "failure"} <= said.keys():
        return None
    return Answer(at, UUID(said["id"]), accepted=status == 202, ended=_ending(said))


def _ending(said: dict[str, Any]) -> Ending | None:
    if said["status"] == "pending":
        return None
    reason = said["failure"] and said["failure"]["code"]
    return said["status"], to_us(datetime.fromisoformat(said["settled_at"])), reason
