"""Rates of requests: how many a user, or a network without a token, may send to each route.

They are kept in this process: looking one up must cost nothing.
"""

from collections import OrderedDict
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from api.throttling.standing import policy_item
from api.throttling.tally import MOST_REMEMBERED
from core.clock import now_us
from core.domain.throttles import SECOND_US, Decision, Rate
from core.settings import Settings

MINUTE_US = 60 * SECOND_US


class Policy(StrEnum):
    """The rates, by their names in header fields and metrics."""

    TRANSFERS = "transfers"
    READS = "reads"
    WRITES = "writes"
    ANONYMOUS = "anonymous"
    ANONYMOUS_READS = "anonymous-reads"
    ANONYMOUS_REFUSALS = "anonymous-refusals"
    DOCUMENT_ROWS = "document-rows"


REFUSED = ""
"""The route under which all refused requests of a network are counted together."""

MONEY = frozenset(
    {"/transfers", "/transfers/bulk", "/transfers/{transfer_id}/cancel", "/deposits", "/withdrawals"},
)
"""Routes whose POST moves money, or stops it from moving."""


def policy_of(path: str, methods: Iterable[str], *, signed_in: bool) -> Policy:
    """Return the rate that applies to a route."""
    if "GET" in methods:
        return Policy.READS if signed_in else Policy.ANONYMOUS_READS
    if not signed_in:
        return Policy.ANONYMOUS
    return Policy.TRANSFERS if path in MONEY else Policy.WRITES


@lru_cache(maxsize=MOST_REMEMBERED)
def network_of(address: str | None) -> str:
    """Return the network that stands for a client: an IPv4 address, or the /64 of an IPv6 address.

    A client that has one IPv6 address has its whole /64. All clients without a known address count as one.
    """
    if address is None:
        return "unknown"
    parsed: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(parsed, IPv4Address):
        return address
    return str(parsed.ipv4_mapped or IPv6Network((parsed, 64), strict=False))


class Buckets:
    """One rate, and what each user or network has left of it on each route.

    The buckets that were used longest ago are dropped first, and a dropped bucket starts full again. So a flood from
    many networks costs no memory. It takes nothing from users, whose buckets belong to other rates.
    """

    def __init__(self, policy: str, rate: Rate, *, most: int = MOST_REMEMBERED) -> None:
        self.header = policy_item(policy, rate.requests, rate.seconds)
        self._rate = rate
        self._most = most
        self._full_at: OrderedDict[tuple[str, int | str], float] = OrderedDict()

    def take(self, route: str, who: int | str, count: int = 1) -> Decision:
        """Take `count` requests out of the bucket of `who`, a user's row id or a client's network."""
        key = route, who
        decision, self._full_at[key] = self._rate.take(self._full_at.get(key, 0), now_us(), count)
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        return decision

    def take_more(self, route: str, who: int | str, count: int) -> Decision:
        """Take `count` requests more for the one that was just taken, because it counts as several."""
        key = route, who
        decision, self._full_at[key] = self._rate.take_more(self._full_at.get(key, 0), now_us(), count)
        return decision

    def look(self, route: str, who: int | str) -> Decision:
        """Return what `take` would decide, and take nothing."""
        return self._rate.take(self._full_at.get((route, who), 0), now_us())[0]

    def __len__(self) -> int:
        return len(self._full_at)


def buckets_of(settings: Settings) -> dict[Policy, Buckets]:
    """Make the buckets of every rate that the settings switch on; each API process has its share of a rate."""
    texts = {
        Policy.TRANSFERS: settings.limit_transfers,
        Policy.READS: settings.limit_reads,
        Policy.WRITES: settings.limit_writes,
        Policy.ANONYMOUS: settings.limit_anonymous,
        Policy.ANONYMOUS_READS: settings.limit_anonymous_reads,
        Policy.ANONYMOUS_REFUSALS: settings.limit_anonymous_refusals,
        Policy.DOCUMENT_ROWS: settings.limit_document_rows,
    }
    rates = {policy: Rate.parse(text) for policy, text in texts.items()}
    return {policy: Buckets(policy, rate.share(settings.api_processes)) for policy, rate in rates.items() if rate}
