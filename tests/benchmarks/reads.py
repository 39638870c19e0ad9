"""What a client reads, on a small ledger and on a large one: the time of each answer, and what does not vary with it.

Pages read and steps of SQLite's machine are counted in this process, on a connection that has nothing in its cache,
by the services that the routes call.
"""

import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from core.services import accounts
from core.services.transfers import listing
from core.settings import load_settings
from core.storage import users
from core.storage.sqlite.engine import Database
from tests.benchmarks.baselines.giro import Giro
from tests.benchmarks.figures import Results
from tests.benchmarks.laid import Ground
from tests.benchmarks.service import Connection, cpu_seconds, quantile

POLL, BALANCE, DEEP = KINDS = ("poll by id", "balance", "page at depth")
APART = "page at depth, legs apart"
PAGE = 100
LONGEST_PAGE = 1000
SAMPLES = 20
"""Reads counted of each kind."""


class Side:
    """One ledger that is read: whose it is, and where in it the pages lie."""

    def __init__(self, name: str, giro: Giro, ground: Ground) -> None:
        self.name, self.giro, self.ground = name, giro, ground
        self.headers = giro.singles[0].headers
        self.newest, self.deposits = giro.progress().accepted, len(ground.accounts)
        self.cursors: dict[str, str] = {}
        self.starts: dict[str, int] = {}
        """The legs that the pages begin with."""

    async def connect(self) -> None:
        """Open the connection that is asked over; the service closes one that says nothing for some seconds."""
        self.connection = await Connection.open(self.giro.port)

    async def walk(self, depth: int) -> None:
        """Find the cursors of the pages at a depth, as a client finds them: by those before."""
        await self.connect()
        kinds = [DEEP, APART] if self._legs(self.ground.apart) > depth + PAGE else [DEEP]
        for kind in kinds:
            self.cursors[kind] = await self._walk(self.account_of(kind), depth)
            _, body = await self.ask(self.path(kind))
            self.starts[kind] = json.loads(body)["items"][0]["sequence"]
        self.connection.close()

    async def _walk(self, account: str, depth: int) -> str:
        cursor = start = ""
        while depth > 0:
            limit = min(depth, LONGEST_PAGE)
            _, body = await self.ask(f"/accounts/{account}/transactions?limit={limit}{start}")
            cursor, depth = json.loads(body)["next_cursor"], depth - limit
            start = f"&cursor={cursor}"
        return cursor

    def path(self, kind: str) -> str:
        """Draw what is asked for: any transfer, any account, or the page of that depth."""
        if kind == POLL:
            return self.giro.path_of(self.any_sequence())
        if kind == BALANCE:
            return f"/accounts/{random.choice(self.ground.accounts)}"
        return f"/accounts/{self.account_of(kind)}/transactions?limit={PAGE}&cursor={self.cursors[kind]}"

    def account_of(self, kind: str) -> str:
        """The account that the page is of."""
        return self.ground.apart if kind == APART else self.ground.dense

    def any_sequence(self) -> int:
        """Draw a transfer, but none of the deposits that the ledger begins with, which are the bank's."""
        return random.randint(self.deposits + 1, self.newest)

    async def ask(self, path: str) -> tuple[int, bytes]:
        return await self.connection.ask(f"GET {path}", self.headers)

    def _legs(self, account: str) -> int:
        query = "SELECT count(*) FROM transactions WHERE account_id = (SELECT id FROM accounts WHERE public_id = ?)"
        legs: int = self.giro.ledger.execute(query, (UUID(account).bytes,)).fetchone()[0]
        return legs


async def time_reads(results: Results, sides: Sequence[Side], kind: str, count: int) -> None:
    """Ask each side in turn, one request at a time; note the median and the 99th percentile of the answers' times.

    And the processor time that an answer takes the API, which varies less on a busy machine.
    """
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    apis = {side.name: [side.giro.stack.pid_of("api")] for side in sides}
    used = {name: cpu_seconds(pids) for name, pids in apis.items()}
    for side in sides:
        await side.connect()
    for number in range(count):
        for side in sides[:: 1 if number % 2 else -1]:
            path = side.path(kind)
            begun = time.perf_counter()
            status, body = await side.ask(path)
            times[side.name].append((time.perf_counter() - begun) * 1000)
            assert status == 200, body
    for side in sides:
        side.connection.close()
    for name, taken in times.items():
        results.add(f"{kind}, {name}", statistics.median(taken), "ms")
        results.add(f"{kind}, {name}, p99", quantile(taken, 0.99), "ms")
        results.add(f"{kind}, {name}: processor", (cpu_seconds(apis[name]) - used[name]) / count * 1e6, "µs")


async def measure(results: Results, small: Side, large: Side, depth: int, *, rounds: int, count: int) -> None:
    """Time and count the reads on both sides."""
    for side in (small, large):
        await side.walk(depth)
    for number in range(-1, rounds):
        found = results if number >= 0 else Results()  # the first round warms up
        for kind in KINDS:
            await time_reads(found, (small, large), kind, count)
        if APART in large.cursors:
            await time_reads(found, (large,), APART, count)
    for side in (small, large):
        for kind in (POLL, BALANCE, *side.cursors):
            await count_reads(results, side, kind)


# --- what does not vary ------------------------------------------------------------------------------------------


async def count_reads(results: Results, side: Side, kind: str) -> None:
    """Note what a read takes on average: pages of the file, and steps of SQLite's machine."""
    database = Database(load_settings(_env_file=None, data_dir=side.giro.stack.data))
    costs = [await _cost(database, side, kind) for _ in range(SAMPLES)]
    results.add(f"{kind}, {side.name}: read", statistics.mean(pages for pages, _ in costs), "pages of 4 KiB")
    results.add(f"{kind}, {side.name}: done", statistics.mean(steps for _, steps in costs), "steps of SQLite")


async def _cost(database: Database, side: Side, kind: str) -> tuple[int, int]:
    """Read once on a connection that has nothing but the schema in its cache."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    read = _read_of(side, kind)
    async with AsyncSession(database.async_reader) as session:
        owner = await users.get_by_email(session, side.ground.email)
        assert owner is not None
        raw = await (await session.connection()).get_raw_connection()
        assert raw.driver_connection is not None
        await raw.driver_connection.set_progress_handler(count, 1)
        before = _reads()
        await read(session, owner.id)
        pages = _reads() - before - 1  # asking for it is one read
    await database.async_reader.dispose()
    return pages, steps


def _read_of(side: Side, kind: str) -> Callable[[AsyncSession, int], Awaitable[object]]:
    """What a route does to answer."""
    if kind == POLL:
        transfer = UUID(side.giro.path_of(side.any_sequence()).removeprefix("/transfers/"))
        return lambda session, user_id: listing.get(session, user_id=user_id, transfer_id=transfer)
    if kind == BALANCE:
        account = UUID(random.choice(side.ground.accounts))
        return lambda session, user_id: accounts.get(session, user_id=user_id, account_id=account)

    async def page(session: AsyncSession, user_id: int) -> object:
        owned = await accounts.get(session, user_id=user_id, account_id=UUID(side.account_of(kind)))
        return await accounts.list_transactions(session, account=owned, start=side.starts[kind], offset=0, limit=PAGE)

    return page


def _reads() -> int:
    """Calls by which this process has read anything so far; SQLite reads a page by one."""
    return int(Path("/proc/self/io").read_text().partition("syscr: ")[2].split()[0])
