"""Delays after failed attempts, where somebody could guess: passwords, refresh tokens, e-mail addresses.

Failures are counted for all processes together (api/throttling/tally.py).
"""

from enum import StrEnum
from typing import NamedTuple

from fastapi import Request

from api.throttling.rates import MINUTE_US
from api.throttling.standing import add_standing, policy_item
from api.throttling.tally import Tally, Try, Watched
from core.domain.throttles import SECOND_US, Patience, Record
from core.settings.groups.throttling import ThrottlingSettings


class Guess(StrEnum):
    """What can be guessed, by the name in header fields and metrics. Failures of one kind count together."""

    LOG_IN_ACCOUNT = "log-in-account"
    """An account, from one network."""
    LOG_IN_DEVICE = "log-in-device"
    """An account, on a device that has logged in to it before."""
    LOG_IN_EVERYWHERE = "log-in-everywhere"
    """An account, from all networks together."""
    LOG_IN_ADDRESS = "log-in-address"
    SIGN_UP = "sign-up"
    PASSWORD = "password"
    REFRESH = "refresh"
    PAYEES = "payees"
    """Counted by api/throttling/payees.py."""


FORGET_US = {
    Guess.LOG_IN_ACCOUNT: 15 * MINUTE_US,
    Guess.LOG_IN_DEVICE: 15 * MINUTE_US,
    Guess.LOG_IN_EVERYWHERE: 15 * MINUTE_US,
    Guess.LOG_IN_ADDRESS: MINUTE_US,
    Guess.SIGN_UP: MINUTE_US,
    Guess.PASSWORD: 15 * MINUTE_US,
    Guess.REFRESH: MINUTE_US,
    Guess.PAYEES: MINUTE_US,
}
"""Time after which one failure is forgotten. Many people can share an address; nobody shares an account."""

GUESSED_AT = (
    ("/login", Guess.LOG_IN_ACCOUNT),
    ("/login", Guess.LOG_IN_DEVICE),
    ("/login", Guess.LOG_IN_EVERYWHERE),
    ("/login", Guess.LOG_IN_ADDRESS),
    ("/signup", Guess.SIGN_UP),
    ("/users/me/password", Guess.PASSWORD),
    ("/token/refresh", Guess.REFRESH),
    ("/transfers", Guess.PAYEES),
    ("/transfers/bulk", Guess.PAYEES),
)
"""The routes where it can be guessed. Their counters start at 0, so that the first increase is visible."""


class Guarded(NamedTuple):
    """Something that a client may be guessing, and the count of its failures."""

    guess: Guess
    watched: Watched

    @property
    def policy(self) -> bytes:
        """The policy as the header field writes it."""
        free, forget_us = self.watched.patience.free, self.watched.patience.forget_us
        return policy_item(self.guess, free, free * forget_us // SECOND_US)

    @property
    def is_its_owners(self) -> bool:
        """Whether success proves that the owner is here, so that earlier failures are dropped."""
        return self.guess in (Guess.LOG_IN_ACCOUNT, Guess.LOG_IN_DEVICE, Guess.PASSWORD)

    @property
    def is_shown(self) -> bool:
        """Whether answers show what is left. For an account they would show strangers what its owner does."""
        return self.guess not in (Guess.LOG_IN_ACCOUNT, Guess.LOG_IN_EVERYWHERE)


class Attempt:
    """One attempt that was allowed. It counts as failed until it is known to have succeeded."""

    def __init__(self, tally: Tally, request: Request, guarded: list[Guarded], tried: Try) -> None:
        self._tally = tally
        self._request = request
        self._at = tried.at
        self._counted = list(zip(guarded, tried.records, strict=True))

    def failed(self) -> None:
        """Leave the attempt counted."""
        for one, record in self._counted:
            self._tell(one, record)

    async def succeeded(self) -> None:
        """Drop all failures that the owner caused, and take this one attempt back from the count of the address."""
        for one, record in self._counted:
            if one.is_its_owners:
                await self._tally.forget(one.watched)
                self._tell(one, Record())
            else:
                await self._tally.forgive(one.watched, self._at)
                self._tell(one, one.watched.patience.forgive(record, self._at))

    async def take_back(self) -> None:
        """Take the attempt back: it ended for reasons of the service."""
        for one, _ in self._counted:
            await self._tally.forgive(one.watched, self._at)

    def _tell(self, one: Guarded, record: Record) -> None:
        if one.is_shown:
            add_standing(self._request, one.policy, one.guess, one.watched.patience.look(record, self._at))


def patience_of(settings: ThrottlingSettings) -> dict[Guess, Patience]:
    """Return the delays after failures that the settings switch on."""
    free = {
        Guess.LOG_IN_ACCOUNT: settings.throttle_account_tries,
        Guess.LOG_IN_DEVICE: settings.throttle_account_tries,
        Guess.LOG_IN_EVERYWHERE: settings.throttle_account_everywhere_tries,
        Guess.LOG_IN_ADDRESS: settings.throttle_address_tries,
        Guess.SIGN_UP: settings.throttle_sign_up_tries,
        Guess.PASSWORD: settings.throttle_account_tries,
        Guess.REFRESH: settings.throttle_address_tries,
        Guess.PAYEES: settings.throttle_payee_tries,
    }
    first, longest = (
        round(seconds * SECOND_US) for seconds in (settings.throttle_first_seconds, settings.throttle_longest_seconds)
    )
    return {guess: Patience(tries, FORGET_US[guess], first, longest) for guess, tries in free.items() if tries}
