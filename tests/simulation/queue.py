"""A queue with all faults of real ones: it loses, repeats, reorders and delays messages, and it may be down."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import redis

from core.queue.messages import SETTLEMENT_QUEUE, message
from tests.simulation.time import Clock


class Queue:
    """Replaces Dramatiq's broker and its client. Messages are in a list, in any order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keys: dict[str, float] = {}
        self.away = False
        self.meanwhile: list[Callable[[], None]] = []
        """Actions of others while a wake-up is on its way to the queue."""
        self.messages: list[Any] = []
        self.sent: Counter[str] = Counter()

    # --- the broker ---

    @property
    def client(self) -> "Queue":
        return self

    def enqueue(self, sent: Any) -> None:
        self._answer()
        self.messages.append(sent)
        self.sent[sent.actor_name] += 1

    # --- its client ---

    def set(self, key: str, _value: bytes, *, px: int, nx: bool = False) -> bool:
        self._answer()
        if nx and self._keys.get(key, 0) > self._clock.elapsed:
            return False
        self._keys[key] = self._clock.elapsed + px / 1000
        return True

    def pttl(self, key: str) -> int:
        self._answer()
        left = self._keys.get(key, 0) - self._clock.elapsed
        return int(left * 1000) if left > 0 else -2

    def delete(self, key: str) -> None:
        others, self.meanwhile = self.meanwhile, []
        for other in others:
            other()
        self._answer()
        self._keys.pop(key, None)

    def _answer(self) -> None:
        if self.away:
            raise redis.ConnectionError

    def holds_a_key(self) -> bool:
        """Return whether the wake-up key exists, whatever happened to its message."""
        return any(until > self._clock.elapsed for until in self._keys.values())

    # --- faults ---

    def suffer(self, what: str) -> None:
        """Lose, repeat or reverse messages, forge one, forget everything, go down, or come back."""
        if what in ("be away", "be back"):
            self.away = what == "be away"
        elif what == "forge":
            self.messages.append(message("settle", SETTLEMENT_QUEUE, 2**70, -1))
        elif what == "forget everything":
            self.forget_everything()
        elif what == "reverse":
            self.messages.reverse()
        elif what == "lose":
            self.messages = self.messages[1:]
        else:
            self.messages = self.messages[:1] + self.messages

    def forget_everything(self) -> None:
        """Restart the server: it loses everything."""
        self.messages.clear()
        self._keys.clear()
