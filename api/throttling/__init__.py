"""Throttling: rates of requests, and delays after failed guesses."""

from hashlib import blake2b

from fastapi import Request
from redis.asyncio import Redis

from api.throttling.guesses import GUESSED_AT, Attempt, Guarded, Guess, patience_of
from api.throttling.payees import Payees
from api.throttling.rates import Buckets, Policy, buckets_of, network_of
from api.throttling.standing import add_standing, rate_limited, route_of
from api.throttling.tally import Tally, Try, Watched
from core.domain.throttles import Decision
from core.security.derivation import derive_key
from core.security.device_tokens import Device
from core.security.secrets import Secrets
from core.services.identity.emails import looked_up
from core.settings import Settings
from core.telemetry.metrics import http as metrics

NOTHING_WATCHED = Try(0, refused=False, records=[])


class Throttles:
    """All rates and delays that the settings switch on."""

    def __init__(self, settings: Settings, secrets: Secrets, client: Redis) -> None:
        self._key = derive_key(secrets.card_index_key.read_or_make(), "throttles")
        self._tally = Tally(client)
        self._buckets = buckets_of(settings)
        self._patience = patience_of(settings)
        self.payees = Payees(self._tally)
        for route, guess in GUESSED_AT:
            metrics.throttled.labels(route, guess)

    def check_rate(self, request: Request, policy: Policy, who: int | str) -> None:
        """Count a request of `who` against its route's rate. Raises RateLimited if nothing is left."""
        self._check(request, policy, route_of(request), who, 1)

    def check_rows(self, request: Request, user_id: int, rows: int) -> None:
        """Count the rows of a document against a user's budget, the same for all routes. Raises RateLimited."""
        self._check(request, Policy.DOCUMENT_ROWS, "", user_id, rows)

    def _check(self, request: Request, policy: Policy, route: str, who: int | str, count: int) -> None:
        buckets = self._buckets.get(policy)
        if buckets is None:
            return
        _apply(request, policy, buckets, buckets.take(route, who, count))

    def check_lines(self, request: Request, policy: Policy, who: int | str, lines: int) -> None:
        """Count a batch, which was counted as one request before it was read, as one for each line.

        Raises RateLimited if less is left. A batch of more lines than the rate allows at once needs all of it.
        """
        buckets = self._buckets.get(policy)
        if buckets is not None and lines > 1:
            _apply(request, policy, buckets, buckets.take_more(route_of(request), who, lines - 1))

    @property
    def refusals(self) -> Buckets | None:
        """The budgets of networks for refused requests without a valid token; None if they are switched off."""
        return self._buckets.get(Policy.ANONYMOUS_REFUSALS)

    def log_in(self, email: str, address: str | None, *, port: int = 0) -> list[Guarded]:
        """Return what a log-in may be guessing: the password of one account, which may not exist, or of many.

        `port` is the operators' own port if the log-in comes there, otherwise 0: guesses elsewhere do not count there.
        """
        # In the form in which users are looked up, so that no other spelling has its own count.
        name, network = looked_up(email), network_of(address)
        account = name if port == 0 else f"{port} {name}"
        return self._guarded(
            (Guess.LOG_IN_ACCOUNT, f"{network} {account}"),
            (Guess.LOG_IN_EVERYWHERE, account),
            (Guess.LOG_IN_ADDRESS, network),
        )

    def log_in_on(self, device: Device) -> list[Guarded]:
        """Return what a log-in on a known device may be guessing. Nobody else's failures count with it."""
        return self._guarded((Guess.LOG_IN_DEVICE, f"{device.user_id} {device.name}"))

    def sign_up(self, address: str | None) -> list[Guarded]:
        """Return what a sign-up may be guessing: which e-mail addresses are customers."""
        return self._guarded((Guess.SIGN_UP, network_of(address)))

    def password(self, user_id: int) -> list[Guarded]:
        """Return what a change of password may be guessing: the current one, with a stolen token."""
        return self._guarded((Guess.PASSWORD, str(user_id)))

    def refresh(self, address: str | None) -> list[Guarded]:
        """Return what a refresh may be guessing: a token."""
        return self._guarded((Guess.REFRESH, network_of(address)))

    def payees_of(self, user_id: int) -> Guarded | None:
        """Return what transfers of a user may be guessing: which accounts exist, and which can receive."""
        return next(iter(self._guarded((Guess.PAYEES, str(user_id)))), None)

    async def attempt(self, request: Request, guarded: list[Guarded]) -> "Attempt":
        """Count an attempt as failed until it is known to have succeeded. Raises RateLimited if it has to wait."""
        tried = await self._tally.attempt([one.watched for one in guarded]) if guarded else NOTHING_WATCHED
        if not tried.refused:
            return Attempt(self._tally, request, guarded, tried)
        decisions = (
            one.watched.patience.look(record, tried.at) for one, record in zip(guarded, tried.records, strict=True)
        )
        one, decision = max(zip(guarded, decisions, strict=True), key=lambda pair: pair[1].wait_us)
        add_standing(request, one.policy, one.guess, decision)
        raise rate_limited(request, one.guess, decision.wait_us)

    async def close(self) -> None:
        """Close the connections to the queue server."""
        await self._tally.close()

    def _guarded(self, *named: tuple[Guess, str]) -> list[Guarded]:
        return [
            Guarded(guess, Watched(f"{guess}:{self._digest(name)}", self._patience[guess]))
            for guess, name in named
            if guess in self._patience
        ]

    def _digest(self, name: str) -> str:
        """Hide a name with a keyed digest. Without a key, an attacker could try all addresses."""
        return blake2b(name.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).hexdigest()


def _apply(request: Request, policy: Policy, buckets: Buckets, decision: Decision) -> None:
    """State in the answer what is left of a rate. Raises RateLimited if that is not enough."""
    add_standing(request, buckets.header, policy, decision)
    if decision.wait_us:
        raise rate_limited(request, policy, decision.wait_us)
