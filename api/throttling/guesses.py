"""How often one may ask: rates for users and routes, and delays where somebody could guess.

Rates are kept in this process: asking about one must cost nothing. Failures are counted for all processes together
(api/throttling/tally.py). What is said of both in headers is draft-ietf-httpapi-ratelimit-headers-11.
"""

from collections import OrderedDict
from collections.abc import Iterable
from enum import StrEnum
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from math import ceil
from typing import NamedTuple

from fastapi import Request
from redis.asyncio import Redis

from api.throttling.tally import MOST_REMEMBERED, Tally, Try, Watched
from core.clock import now_us
from core.domain.errors import RateLimited
from core.domain.throttles import SECOND_US, Decision, Patience, Rate, Record
from core.security.derivation import derive_key
from core.settings import Settings
from core.telemetry import metrics

MINUTE_US = 60 * SECOND_US

NOTHING_WATCHED = Try(0, refused=False, records=[])


class Policy(StrEnum):
    """The rates, by the name that headers and metrics give them."""

    TRANSFERS = "transfers"
    READS = "reads"
    WRITES = "writes"
    ANONYMOUS = "anonymous"
    ANONYMOUS_READS = "anonymous-reads"


class Guess(StrEnum):
    """What can be guessed, by the same kind of name, and whose failures count together."""

    LOG_IN_ACCOUNT = "log-in-account"
    LOG_IN_ADDRESS = "log-in-address"
    SIGN_UP = "sign-up"
    PASSWORD = "password"
    REFRESH = "refresh"


MONEY = frozenset(
    {"/transfers", "/transfers/bulk", "/transfers/{transfer_id}/cancel", "/deposits", "/withdrawals"},
)
"""Routes whose POST moves money, or keeps it from moving."""

FORGET_US = {
    Guess.LOG_IN_ACCOUNT: 15 * MINUTE_US,
    Guess.LOG_IN_ADDRESS: MINUTE_US,
    Guess.SIGN_UP: MINUTE_US,
    Guess.PASSWORD: 15 * MINUTE_US,
    Guess.REFRESH: MINUTE_US,
}
"""Time after which one failure is forgotten. Many people can share an address, and nobody an account."""

GUESSED_AT = (
    ("/login", Guess.LOG_IN_ACCOUNT),
    ("/login", Guess.LOG_IN_ADDRESS),
    ("/signup", Guess.SIGN_UP),
    ("/users/me/password", Guess.PASSWORD),
    ("/token/refresh", Guess.REFRESH),
)
"""Where; each is counted from 0, so that the first one is seen to rise."""


def policy_of(path: str, methods: Iterable[str], *, signed_in: bool) -> Policy:
    """Name the rate that a route is held to."""
    if "GET" in methods:
        return Policy.READS if signed_in else Policy.ANONYMOUS_READS
    if not signed_in:
        return Policy.ANONYMOUS
    return Policy.TRANSFERS if path in MONEY else Policy.WRITES


def network_of(address: str | None) -> str:
    """Name the client behind an address: of IPv6 its /64, since whoever has one address of it has them all.

    All those whose address nobody knows are one client.
    """
    if address is None:
        return "unknown"
    parsed: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(parsed, IPv4Address):
        return address
    return str(parsed.ipv4_mapped or IPv6Network((parsed, 64), strict=False))


class Limit:
    """One rate, and how much of it each user has left on each route; those who asked longest ago are forgotten first.

    Who is forgotten starts with a full bucket. So a flood from many addresses costs no memory, and hurts no user, since
    addresses and users are counted apart.
    """

    def __init__(self, policy: Policy, rate: Rate, *, most: int = MOST_REMEMBERED) -> None:
        self.header = _policy_item(policy, rate.requests, rate.seconds)
        self._rate = rate
        self._most = most
        self._full_at: OrderedDict[tuple[str, int | str], float] = OrderedDict()

    def take(self, route: str, who: int | str) -> Decision:
        """Take one request of somebody, a user's row id or a client's address, out of what is left."""
        key = route, who
        decision, self._full_at[key] = self._rate.take(self._full_at.get(key, 0), now_us())
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        return decision

    def __len__(self) -> int:
        return len(self._full_at)


class Guarded(NamedTuple):
    """Something that somebody may be guessing, and what its failures are counted of."""

    guess: Guess
    watched: Watched

    @property
    def policy(self) -> bytes:
        """The policy as a header says it."""
        free, forget_us = self.watched.patience.free, self.watched.patience.forget_us
        return _policy_item(self.guess, free, free * forget_us // SECOND_US)

    @property
    def is_its_owners(self) -> bool:
        """Whether success proves that its owner is here, so that what has failed before is forgotten."""
        return self.guess in (Guess.LOG_IN_ACCOUNT, Guess.PASSWORD)

    @property
    def is_shown(self) -> bool:
        """Whether answers tell what is left. Of an account they would tell strangers what its owner does."""
        return self.guess is not Guess.LOG_IN_ACCOUNT


class Throttles:
    """All of them, as the settings have them."""

    def __init__(self, settings: Settings, client: Redis) -> None:
        self._key = derive_key(settings.card_index_secret, "throttles")
        self._tally = Tally(client)
        self._limits = _limits(settings)
        self._patience = _patience(settings)
        for route, guess in GUESSED_AT:
            metrics.throttled.labels(route, guess)

    def limit(self, request: Request, policy: Policy, who: int | str) -> None:
        """Let a request through that its route's rate allows; raises RateLimited otherwise."""
        limit = self._limits.get(policy)
        if limit is None:
            return
        decision = limit.take(_route_of(request), who)
        _tell(request, limit.header, policy, decision)
        if decision.wait_us:
            raise _limited(request, policy, decision.wait_us)

    def log_in(self, email: str, address: str | None) -> list[Guarded]:
        """What a log-in may be guessing: the password of one account, which need not exist, or of many."""
        # As it is looked up (core/services/identity/users.py): in lower case.
        return self._guarded((Guess.LOG_IN_ACCOUNT, email.lower()), (Guess.LOG_IN_ADDRESS, network_of(address)))

    def sign_up(self, address: str | None) -> list[Guarded]:
        """What a sign-up may be guessing: who is a customer."""
        return self._guarded((Guess.SIGN_UP, network_of(address)))

    def password(self, user_id: int) -> list[Guarded]:
        """What a change of password may be guessing: the present one, with a token that was stolen."""
        return self._guarded((Guess.PASSWORD, str(user_id)))

    def refresh(self, address: str | None) -> list[Guarded]:
        """What a refresh may be guessing: a token."""
        return self._guarded((Guess.REFRESH, network_of(address)))

    async def attempt(self, request: Request, guarded: list[Guarded]) -> "Attempt":
        """Count an attempt as failed until it is known to be none; raises RateLimited if it has to wait."""
        tried = await self._tally.attempt([one.watched for one in guarded]) if guarded else NOTHING_WATCHED
        if not tried.refused:
            return Attempt(self._tally, request, guarded, tried)
        decisions = (
            one.watched.patience.look(record, tried.at) for one, record in zip(guarded, tried.records, strict=True)
        )
        one, decision = max(zip(guarded, decisions, strict=True), key=lambda pair: pair[1].wait_us)
        _tell(request, one.policy, one.guess, decision)
        raise _limited(request, one.guess, decision.wait_us)

    async def close(self) -> None:
        """Let go of the queue server."""
        await self._tally.close()

    def _guarded(self, *named: tuple[Guess, str]) -> list[Guarded]:
        return [
            Guarded(guess, Watched(f"{guess}:{self._digest(name)}", self._patience[guess]))
            for guess, name in named
            if guess in self._patience
        ]

    def _digest(self, name: str) -> str:
        """Hide a name, with a key: addresses are few enough to be tried out."""
        return blake2b(name.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).hexdigest()


class Attempt:
    """One attempt that was let through, and counts as failed unless something else is said of it."""

    def __init__(self, tally: Tally, request: Request, guarded: list[Guarded], tried: Try) -> None:
        self._tally = tally
        self._request = request
        self._at = tried.at
        self._counted = list(zip(guarded, tried.records, strict=True))

    def failed(self) -> None:
        """It stays counted."""
        for one, record in self._counted:
            self._tell(one, record)

    async def succeeded(self) -> None:
        """It was no guess: its owner's failures are forgotten, and of an address this one try."""
        for one, record in self._counted:
            if one.is_its_owners:
                await self._tally.forget(one.watched)
                self._tell(one, Record())
            else:
                await self._tally.forgive(one.watched, self._at)
                self._tell(one, one.watched.patience.forgive(record, self._at))

    async def take_back(self) -> None:
        """It came to nothing, for reasons of ours."""
        for one, _ in self._counted:
            await self._tally.forgive(one.watched, self._at)

    def _tell(self, one: Guarded, record: Record) -> None:
        if one.is_shown:
            _tell(self._request, one.policy, one.guess, one.watched.patience.look(record, self._at))


def _limits(settings: Settings) -> dict[Policy, Limit]:
    texts = {
        Policy.TRANSFERS: settings.limit_transfers,
        Policy.READS: settings.limit_reads,
        Policy.WRITES: settings.limit_writes,
        Policy.ANONYMOUS: settings.limit_anonymous,
        Policy.ANONYMOUS_READS: settings.limit_anonymous_reads,
    }
    rates = {policy: Rate.parse(text) for policy, text in texts.items()}
    return {policy: Limit(policy, rate.share(settings.api_processes)) for policy, rate in rates.items() if rate}


def _patience(settings: Settings) -> dict[Guess, Patience]:
    free = {
        Guess.LOG_IN_ACCOUNT: settings.throttle_account_tries,
        Guess.LOG_IN_ADDRESS: settings.throttle_address_tries,
        Guess.SIGN_UP: settings.throttle_sign_up_tries,
        Guess.PASSWORD: settings.throttle_account_tries,
        Guess.REFRESH: settings.throttle_address_tries,
    }
    first, longest = (
        round(seconds * SECOND_US) for seconds in (settings.throttle_first_seconds, settings.throttle_longest_seconds)
    )
    return {guess: Patience(tries, FORGET_US[guess], first, longest) for guess, tries in free.items() if tries}


def _route_of(request: Request) -> str:
    path: str = request.scope["route"].path  # the template: a path would hold what was sent
    return path


def _limited(request: Request, policy: Policy | Guess, wait_us: int) -> RateLimited:
    metrics.throttled.labels(_route_of(request), policy).inc()
    return RateLimited(_seconds(wait_us))


def _policy_item(name: str, quota: int, window: int) -> bytes:
    return f'"{name}";q={quota};w={window}'.encode()


def _tell(request: Request, policy: bytes, name: str, decision: Decision) -> None:
    """Have every answer to a request say how its client stands (api/server/limits.py)."""
    item = f'"{name}";r={decision.left};t={_seconds(decision.more_us)}'.encode()
    request.scope["state"].setdefault("rate_limits", []).append((policy, item))


def _seconds(us: int) -> int:
    """Whole seconds, after which it is certainly worth it."""
    return max(1, ceil(us / SECOND_US))
