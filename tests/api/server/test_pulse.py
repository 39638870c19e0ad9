"""The event loop's pulse."""

import asyncio
import time

import pytest

from api.server import pulse
from api.server.pulse import Pulse


async def test_it_beats_while_the_loop_turns_and_stops_while_the_loop_is_blocked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulse, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(pulse, "LONGEST_PAUSE_SECONDS", 0.2)
    watched = Pulse()
    assert watched.is_felt()
    time.sleep(0.25)  # blocks the loop, unlike a wait
    assert not watched.is_felt()
    await asyncio.sleep(0.05)
    assert watched.is_felt()
    watched.stop()
