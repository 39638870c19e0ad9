"""The delay before a restart, and when a child counts as silent."""

import os
import time
from pathlib import Path

from core.processes.child import Backoff, Child, Silence
from core.processes.supervisor import Supervisor
from core.settings import Settings


def test_the_delay_grows_to_ten_seconds_and_is_reset_after_a_steady_run() -> None:
    backoff = Backoff()
    assert [backoff.delay_after(1) for _ in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert [backoff.delay_after(uptime) for uptime in (29.9, 30, 1)] == [10, 0.2, 0.4]
    assert [backoff.delay_after(1) for _ in range(5000)][-1] == 10


def test_a_clock_that_jumps_makes_no_child_silent(tmp_path: Path) -> None:
    path, silence = tmp_path / "heartbeat", Silence()
    path.touch()
    for hours in (0, -5, 5):
        then = time.time() + hours * 3600
        os.utime(path, (then, then))
        silence.look(path.stat().st_mtime_ns, 1.0)
        assert silence.seconds == 0
    silence.look(path.stat().st_mtime_ns, 1.0)
    assert silence.seconds == 1


def test_a_starting_process_may_be_silent_for_longer_than_one_with_a_heartbeat() -> None:
    silence = Silence()
    silence.look(None, 20.5)
    assert not silence.is_longer_than(20)
    silence.look(None, 60)
    assert silence.is_longer_than(20)
    silence.look(1, 1.0)
    assert not silence.is_longer_than(20)
    silence.look(1, 20.5)
    assert silence.is_longer_than(20)


def test_a_child_is_not_silent_before_its_start(settings: Settings) -> None:
    child = Child(name="api", command=["sleep", "60"], stop_order=0, grace_seconds=1)
    supervisor = Supervisor(
        settings,
        [child],
        environment={},
        missing=lambda: None,
        announce=lambda: None,
        forget=lambda pid: None,
        before_restart=lambda: None,
    )
    (slot,) = supervisor._slots
    supervisor._looked_at = time.monotonic() - 2
    slot.start(dict(os.environ))
    try:
        supervisor._end_what_is_silent()
        assert slot.silence.seconds < 1
    finally:
        process = slot.process
        assert process is not None
        slot.kill()
        process.wait()
