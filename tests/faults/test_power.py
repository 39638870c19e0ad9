"""Power loss: every disk call of a real service is recorded, and the record is cut at every relevant place.

`make power` makes more cuts. The tests of the disk model and of the checks are in test_power_cuts.py.
"""

import random
from pathlib import Path

import pytest

from tests.faults.power.check import Examiner, Ledger, Told, judge
from tests.faults.power.controls import CONTROLS, LOG, cut
from tests.faults.power.disk import Disk, Files
from tests.faults.power.record import DATABASE, Answer, Truncate, Write
from tests.faults.power.replay import Replay
from tests.faults.power.service import TRANSFERS, Recording, record, why_impossible

IMPOSSIBLE = why_impossible()
pytestmark = [
    pytest.mark.whole_service,
    pytest.mark.strace,
    pytest.mark.timeout(300),
    pytest.mark.skipif(IMPOSSIBLE is not None, reason=str(IMPOSSIBLE)),
]

LOG_HEADER, FRAME = 32, 24 + 4096
"""Bytes. Source: https://www.sqlite.org/fileformat2.html#walformat."""
DAMAGED_FRAMES = 30


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """A service under load, recorded once for all tests."""
    return record(tmp_path_factory.mktemp("recorded").resolve())


def test_replay_of_the_whole_record_gives_the_files_of_the_service(recording: Recording, tmp_path: Path) -> None:
    assert Replay(recording.before, recording.events, tmp_path).everything() == recording.after


def test_record_contains_load_and_a_checkpoint(recording: Recording) -> None:
    answers = [event for event in recording.events if isinstance(event, Answer)]
    assert len({answer.id for answer in answers if answer.accepted}) >= TRANSFERS
    assert {answer.ended[0] for answer in answers if answer.ended} == {"completed", "cancelled"}
    cut_back = [event.at for event in recording.events if isinstance(event, Truncate) and event.name == LOG]
    assert any(answers[0].at < at < answers[-1].at for at in cut_back)


def test_power_cut_loses_nothing_that_a_client_was_told(recording: Recording, tmp_path: Path) -> None:
    result = Replay(recording.before, recording.events, tmp_path).run(cuts=100, ways=1)
    assert result.findings == {}
    assert result.lossy_cuts == 0
    assert result.accepted >= TRANSFERS
    assert result.went_on > 10


@pytest.mark.parametrize("control", CONTROLS)
def test_control_loses_answered_transfers_and_is_noticed(control: str, recording: Recording, tmp_path: Path) -> None:
    result = cut(control, recording.before, recording.events, tmp_path)
    assert "every_transfer_answered_202_exists" in result.findings
    assert "every_transfer_reported_as_ended_has_ended" in result.findings
    assert result.lossy_cuts > result.cuts / 10


def test_torn_log_loses_only_what_follows_the_tear(recording: Recording, tmp_path: Path) -> None:
    files, examiner, dice = longest_log(recording), Examiner(tmp_path), random.Random(1)
    database, log = files[DATABASE], files[LOG]
    whole = examiner.look(files)
    lengths = range(LOG_HEADER, len(log), FRAME)
    by_length = [examiner.look({DATABASE: database, LOG: log[:length]}) for length in [*lengths, len(log)]]
    for left in by_length:
        assert judge(left, whole, Told()) == {}
    sizes = [size(left) for left in by_length]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == size(whole)
    answered = Told(accepted=set(whole.endings))
    assert set(judge(by_length[0], whole, answered)) == {"every_transfer_answered_202_exists"}, "the control loses"
    for length, left in dice.sample(list(zip(lengths, by_length, strict=False)), DAMAGED_FRAMES):
        torn = log[: length + dice.randrange(1, FRAME)]
        flipped = bytearray(log)
        flipped[length + dice.randrange(FRAME)] ^= 1 << dice.randrange(8)
        for damaged in (torn, bytes(flipped)):
            assert examiner.look({DATABASE: database, LOG: damaged}) == left


def longest_log(recording: Recording) -> Files:
    """Return the files when the log is longest before any of it is in the database.

    After that the log may not be torn: it was synced first, and the database contains pages of its later frames.
    """
    disk, best, copied = Disk(recording.before), {LOG: b""}, False
    for event in recording.events:
        disk.do(event)
        if isinstance(event, Write) and event.name == DATABASE:
            copied = True
        elif isinstance(event, Truncate) and event.name == LOG:
            copied = False
        elif isinstance(event, Answer) and not copied and len((seen := disk.seen()).get(LOG, b"")) > len(best[LOG]):
            best = seen
    return best


def size(ledger: Ledger) -> tuple[int, int, int]:
    return len(ledger.accepted), len(ledger.legs), len(ledger.blocks)
