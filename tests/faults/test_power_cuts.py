"""Tests of the disk model and of the checks after a power cut, on small known records."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from core.storage.sqlite.engine import Database
from tests.builders import Bank, accepted, from_ada_to_bob, look_up, settle_all
from tests.faults.power.check import Examiner, Told, judge
from tests.faults.power.disk import SECTOR, Disk, Files
from tests.faults.power.record import DATABASE, Answer, Event, RecordError, Remove, Sync, Truncate, Write, read_record
from tests.faults.power.replay import Replay, Result

OLD, NEW = b"o" * 2 * SECTOR, b"n" * 2 * SECTOR


def left_by_a_cut(files: Files, *events: Event, cuts: int = 100) -> list[Files]:
    """Return all states that many cuts after the events leave."""
    disk = Disk(files)
    for event in events:
        disk.do(event)
    return [left for seed in range(cuts) for left in disk.after_a_cut(random.Random(seed), 100)]


# --- the disk ----------------------------------------------------------------------------------------------------


def test_synced_data_survives() -> None:
    events = (Write(1, "a", 0, NEW), Sync(3, 2, "a"), Sync(5, 4, None))
    assert left_by_a_cut({}, *events) == [{"a": NEW}] * 200


def test_write_after_the_start_of_a_sync_is_not_synced() -> None:
    left = left_by_a_cut({"a": OLD}, Write(2, "a", 0, NEW), Sync(3, 1, "a"))
    assert {"a": OLD} in left
    assert {"a": NEW} in left


def test_writes_are_torn_only_between_sectors() -> None:
    left = left_by_a_cut({"a": OLD}, Write(1, "a", 0, NEW))
    halves = {bytes([old[0]]) * SECTOR for old in (OLD, NEW)}
    assert {files["a"] for files in left} == {first + second for first in halves for second in halves}


def test_writes_may_survive_in_any_order() -> None:
    left = left_by_a_cut({"a": OLD}, Write(1, "a", 0, b"1"), Write(2, "a", SECTOR, b"2"))
    later_alone = OLD[:SECTOR] + b"2" + OLD[SECTOR + 1 :]
    assert {"a": later_alone} in left


def test_file_may_have_grown_without_its_bytes_and_may_not_have_shrunk() -> None:
    assert {"a": OLD + bytes(SECTOR)} in left_by_a_cut({"a": OLD}, Write(1, "a", len(OLD), b"n" * SECTOR))
    assert {files["a"] for files in left_by_a_cut({"a": OLD}, Truncate(1, "a", 0))} == {OLD, b""}


def test_name_survives_once_its_folder_is_synced() -> None:
    made = (Write(1, "a", 0, NEW), Sync(3, 2, "a"))
    assert {} in left_by_a_cut({}, *made)
    assert {} in left_by_a_cut({}, *made, Sync(5, 0, None))
    assert {} not in left_by_a_cut({}, *made, Sync(5, 4, None))


def test_removed_file_may_come_back_and_differs_from_a_new_file_with_its_name() -> None:
    events = (Remove(1, "a"), Write(2, "a", 0, NEW), Sync(4, 3, "a"))
    assert {files.get("a") for files in left_by_a_cut({"a": OLD}, *events)} == {OLD, None, NEW}
    assert left_by_a_cut({"a": OLD}, *events, Sync(6, 5, None)) == [{"a": NEW}] * 200


# --- the record --------------------------------------------------------------------------------------------------


def hexadecimal(text: bytes) -> str:
    """Bytes as strace -xx writes them."""
    return "".join(f"\\x{byte:02x}" for byte in text)


def read(tmp_path: Path, *lines: str) -> list[Event]:
    """Read a record in which DB, FOLDER and SOCKET are open files, and 'text' is replaced by its bytes."""
    opened = {
        "DB": tmp_path / DATABASE,
        "FOLDER": tmp_path,
        "SHM": tmp_path / f"{DATABASE}-shm",
        "SOCKET": "socket:[7]",
    }
    text = "\n".join(lines)
    for word, path in opened.items():
        text = text.replace(word, f"9<{hexadecimal(str(path).encode())}>")
    quoted = text.split("'")
    quoted[1::2] = [f'"{hexadecimal(part.encode().decode("unicode_escape").encode())}"' for part in quoted[1::2]]
    (tmp_path / "record").write_text("".join(quoted) + "\n")
    return read_record(tmp_path / "record", tmp_path)


def test_record_has_writes_syncs_and_lengths_without_failed_and_unrelated_calls(tmp_path: Path) -> None:
    assert read(
        tmp_path,
        "10 pwrite64(DB, 'page', 4, 4096) = 4",
        "10 pwrite64(DB, 'page', 4, 8192) = -1 ENOSPC (No space left on device)",
        "10 pwrite64(SHM, 'index', 5, 0) = 5",
        "10 pwrite64(DB(deleted), 'page', 4, 0) = 4",
        "10 ftruncate(DB, 4096)             = 0",
        "10 fsync(DB)                       = 0",
        "11 fdatasync(FOLDER)               = 0",
        f"11 unlink('{tmp_path / DATABASE}') = 0",
        "11 +++ exited with 0 +++",
    ) == [
        Write(0, DATABASE, 4096, b"page"),
        Truncate(4, DATABASE, 4096),
        Sync(5, 5, DATABASE),
        Sync(6, 6, None),
        Remove(7, DATABASE),
    ]


def test_sync_counts_from_its_start_and_write_from_its_return(tmp_path: Path) -> None:
    assert read(
        tmp_path,
        "10 fsync(DB <unfinished ...>",
        "11 pwrite64(DB, 'page', 4, 0 <unfinished ...>",
        "10 <... fsync resumed>) = 0",
        "11 <... pwrite64 resumed>) = 2",
    ) == [Sync(2, 0, DATABASE), Write(3, DATABASE, 0, b"pa")]


def test_answer_counts_from_its_first_byte(tmp_path: Path) -> None:
    transfer = UUID(int=7)
    body = f'{{"id":"{transfer}","status":"completed","settled_at":"1970-01-01T00:00:01Z","failure":null}}'
    assert read(
        tmp_path,
        "10 write(SOCKET, 'GET /health HTTP/1.1\\r\\n\\r\\n', 25) = 25",
        f"10 write(SOCKET, 'HTTP/1.1 202 Accepted\\r\\ncontent-length: {len(body)}\\r\\n\\r\\n', 50 <unfinished ...>",
        "11 fsync(DB) = 0",
        "10 <... write resumed>) = 50",
        f"10 writev(SOCKET, [{{iov_base='{body[:9]}', iov_len=9}}, {{iov_base='{body[9:]}', iov_len=90}}], 2) = 140",
    ) == [
        Answer(1, transfer, accepted=True, ended=("completed", 1_000_000, None)),
        Sync(2, 2, DATABASE),
    ]


def test_unsupported_call_raises_a_record_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="fallocate on"):
        read(tmp_path, "10 fallocate(DB, 0, 0, 4096) = 0")


# --- the checks --------------------------------------------------------------------------------------------------


def content(database: Database) -> bytes:
    """Return the whole database as one file, as it is when no process has it open."""
    database.close()
    return database.path.read_bytes()


def cut(before: bytes, events: Sequence[Event], folder: Path, ways: int = 0) -> Result:
    folder.mkdir()
    return Replay({DATABASE: before}, events, folder).run(cuts=10, ways=ways)


def test_answer_before_the_sync_is_found_and_answer_after_it_is_not(
    database: Database, bank: Bank, tmp_path: Path
) -> None:
    before = content(database)
    transfer = accepted(database, from_ada_to_bob(bank)).id
    write, answered_early = Write(1, DATABASE, 0, content(database)), Answer(2, transfer, accepted=True, ended=None)
    sync, answered_late = Sync(4, 3, DATABASE), Answer(5, transfer, accepted=True, ended=None)
    assert cut(before, [write, sync, answered_late], tmp_path / "late").holds
    early = cut(before, [write, answered_early, sync], tmp_path / "early")
    assert early.findings == {"every_transfer_answered_202_exists": [f"{transfer} was answered 202 and is lost"]}
    assert (early.lossy_cuts, early.most_lost) == (1, 1)


def test_end_reported_before_the_sync_is_found(database: Database, bank: Bank, tmp_path: Path) -> None:
    transfer = accepted(database, from_ada_to_bob(bank)).id
    before = content(database)
    settle_all(database)
    ended_at = look_up(database, transfer).settled_at
    assert ended_at is not None
    told = Answer(2, transfer, accepted=False, ended=("completed", round(ended_at.timestamp() * 1e6), None))
    events: list[Event] = [Write(1, DATABASE, 0, content(database)), told, Sync(4, 3, DATABASE)]
    assert set(cut(before, events, tmp_path / "cut").findings) == {"every_transfer_reported_as_ended_has_ended"}


def test_database_overwritten_in_place_is_found_torn(database: Database, bank: Bank, tmp_path: Path) -> None:
    before = content(database)
    for _ in range(20):
        accepted(database, from_ada_to_bob(bank, 1))
    settle_all(database)
    events: list[Event] = [Write(1, DATABASE, 0, content(database)), Sync(3, 2, DATABASE)]
    assert "opens_and_verifies" in cut(before, events, tmp_path / "cut", ways=10).findings


def test_gap_changed_transfer_and_settlement_out_of_order_are_found(
    database: Database, bank: Bank, tmp_path: Path
) -> None:
    for _ in range(2):
        accepted(database, from_ada_to_bob(bank))
    settle_all(database)
    folder = tmp_path / "examined"
    folder.mkdir()
    whole = Examiner(folder).look({DATABASE: content(database)})
    assert judge(whole, whole, Told()) == {}
    deposit, *_, last = whole.accepted
    gap = replace(whole, accepted=whole.accepted[1:])
    other = replace(whole, accepted=[*whole.accepted[:-1], (*last[:-1], last[-1] + 1)])
    assert judge(gap, gap, Told()), "a gap counts even if the whole run has it"
    late = replace(whole, endings=whole.endings | {UUID(bytes=deposit[1]): None})
    assert [set(judge(left, whole, Told())) for left in (gap, other, late)] == [
        {"rows_are_a_prefix"},
        {"rows_are_a_prefix"},
        {"settled_transfers_are_a_prefix"},
    ]
