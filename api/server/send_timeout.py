"""Disconnection of clients that do not read their answers."""

import asyncio
from asyncio.events import TimerHandle
from collections.abc import Callable

LEAST_TAKEN = 16_384
"""Bytes of an answer that a client must read in each period while any are unread."""


class SendTimeout:
    """Watches how fast a client reads its answer, and calls `on_stall` if it reads too slowly."""

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        on_stall: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._seconds = seconds
        self._on_stall = on_stall
        self._timer: TimerHandle | None = None
        # Report unread output, but not every byte of it, which would cost each answer a turn of the loop.
        transport.set_write_buffer_limits(high=LEAST_TAKEN)

    def start(self) -> None:
        """Begin to watch, when output has to wait for the client."""
        if self._timer is None:
            self._watch(self._transport.get_write_buffer_size())

    def stop(self) -> None:
        """Stop watching, when the client has caught up or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self, left: int) -> None:
        self._timer = self._loop.call_later(self._seconds, self._check_progress, left)

    def _check_progress(self, left_then: int) -> None:
        left = self._transport.get_write_buffer_size()
        if left > left_then - LEAST_TAKEN:
            self._on_stall()
        else:
            self._watch(left)
