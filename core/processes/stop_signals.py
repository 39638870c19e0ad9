"""The signals that ask the supervisor to stop."""

import os
import select
import signal
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self

SAME_REQUEST_SECONDS = 0.2
"""Two signals this close are one request: on a Ctrl-C, many wrappers pass on the signal that the terminal has sent
too."""


class StopSignals:
    """The requests to stop that arrive inside its `with` block, and a `wait` that they end.

    A signal that arrives between the check of a flag and the sleep is not missed: the interpreter writes a byte into
    the pipe, so the sleep ends immediately. After the block the signals are ignored, and their handlers are not
    restored: a late signal must not turn an orderly end into a death by signal.
    """

    def __init__(self) -> None:
        self.stop_asked_by: signal.Signals | None = None
        self.hurry = False
        self._asked_at = 0.0
        self._numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            self._numbers.append(signal.SIGHUP)  # under nohup, a closed terminal is not a request to stop

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in self._numbers:
            signal.signal(number, self._on_signal)
        # An ignored SIGCHLD would not end the sleep, and the kernel would discard exit statuses.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        for number in self._numbers:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.close(self._read_end)
        os.close(self._write_end)

    def wait(self, seconds: float) -> None:
        """Sleep for `seconds`, or until a signal arrives."""
        if select.select([self._read_end], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                os.read(self._read_end, 4096)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.stop_asked_by is None:
            self.stop_asked_by, self._asked_at = signal.Signals(number), time.monotonic()
        elif time.monotonic() - self._asked_at > SAME_REQUEST_SECONDS:
            self.hurry = True
