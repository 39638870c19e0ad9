"""How long a restart waits, and when a child counts as silent."""

import os
import time
from pathlib import Path

from core.supervisor import Backoff, Silence


def test_the_delay_grows_to_ten_seconds_and_starts_anew_after_a_steady_run() -> None:
    backoff = Backoff()
    assert [backoff.delay_after(1) for _ in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert [backoff.delay_after(uptime) for uptime in (29.9, 30, 1)] == [10, 0.2, 0.4]
    assert [backoff.delay_after(1) for _ in range(5000)][-1] == 10


def test_a_clock_that_jumps_makes_nobody_silent(tmp_path: Path) -> None:
    path, silence = tmp_path / "heartbeat", Silence()
    path.touch()
    for hours in (0, -5, 5):
        then = time.time() + hours * 3600
        os.utime(path, (then, then))
        silence.look(path.stat().st_mtime_ns, 1.0)
        assert silence.seconds == 0
    silence.look(path.stat().st_mtime_ns, 1.0)
    assert silence.seconds == 1


# Stopping
