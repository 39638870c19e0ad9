"""Guesses of payees: transfers of a user whose payee is unknown or cannot receive.

Transfers must not wait for a count, so failures are counted after they happened, and a process asks the queue server
only after one of its requests has failed. The answer has the failures of all processes, and stays in this process's
memory: so a process lets through one request that another process would have refused, and then refuses too.
"""

from collections import OrderedDict
from dataclasses import dataclass

from fastapi import Request

from api.throttling.guesses import Guarded
from api.throttling.rates import MINUTE_US
from api.throttling.standing import add_standing, rate_limited
from api.throttling.tally import MOST_REMEMBERED, Tally
from core.clock import now_us
from core.domain.throttles import Record


@dataclass(slots=True)
class _Guesser:
    """A user whose transfers named payees in vain."""

    guarded: Guarded
    record: Record
    """The failures as the queue server last told them."""
    untold: int = 0
    """Failures in this process that the audit log does not have yet."""
    told_at: int = 0


class Payees:
    """Counts the payees that users named in vain, and delays users who name many."""

    def __init__(self, tally: Tally, *, most: int = MOST_REMEMBERED) -> None:
        self._tally = tally
        self._most = most
        self._guessers: OrderedDict[int, _Guesser] = OrderedDict()

    def check(self, request: Request, user_id: int) -> int:
        """Raise RateLimited for a user who has to wait.

        Returns the time of the try (µs) if the user has no free tries left: it counts as failed until it has ended, so
        that concurrent ones wait. Returns 0 for everybody else, after one look into this process's memory.
        """
        guesser = self._guessers.get(user_id)
        if guesser is None:
            return 0
        patience, now = guesser.guarded.watched.patience, now_us()
        decision = patience.look(guesser.record, now)
        if decision.wait_us:
            add_standing(request, guesser.guarded.policy, guesser.guarded.guess, decision)
            raise rate_limited(request, guesser.guarded.guess, decision.wait_us)
        failures = patience.failures(guesser.record, now)
        if failures < patience.free:
            if not failures:
                del self._guessers[user_id]
            return 0
        guesser.record = patience.count(guesser.record, now)
        return now

    def take_back(self, user_id: int, tried_at: int) -> None:
        """Take a try back that `check` has counted: it did not fail, or ended for reasons of the service."""
        if guesser := self._guessers.get(user_id):
            guesser.record = guesser.guarded.watched.patience.forgive(guesser.record, tried_at)

    async def failed(self, request: Request, user_id: int, guarded: Guarded, tries: int) -> int:
        """Count payees that were named in vain.

        Returns how many the audit log should record now: all since its last entry about the user, at most once a minute
        and only beyond the free ones; otherwise 0.
        """
        record = await self._tally.count(guarded.watched, tries)
        guesser = self._guessers.setdefault(user_id, _Guesser(guarded, record))
        self._guessers.move_to_end(user_id)
        if len(self._guessers) > self._most:
            self._guessers.popitem(last=False)
        guesser.record, guesser.untold = record, guesser.untold + tries
        patience, now = guarded.watched.patience, now_us()
        add_standing(request, guarded.policy, guarded.guess, patience.look(record, now))
        if patience.failures(record, now) < patience.free or now < guesser.told_at + MINUTE_US:
            return 0
        untold, guesser.untold, guesser.told_at = guesser.untold, 0, now
        return untold

    def keep_untold(self, user_id: int, tries: int) -> None:
        """Keep failures for the next entry: they could not be written."""
        if guesser := self._guessers.get(user_id):
            guesser.untold, guesser.told_at = guesser.untold + tries, 0
