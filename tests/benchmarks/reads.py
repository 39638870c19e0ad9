"""Reads on a small and on a large ledger: the time of each answer, and the constant figures of each read.

The constant figures are pages read and steps of SQLite's virtual machine. They are counted in this process, on a
connection with an empty cache, for the same services that the routes call.
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
"""Number of counted reads of each kind."""


class Side:
    """One ledger to read: its owner, and where its pages are."""

    def __init__(self, name: str, giro: Giro, ground: Ground) -> None:
        self.name, self.giro, self.ground = name, giro, ground
        self.headers = giro.singles[0].headers
        self.newest, self.deposits = giro.progress().accepted, len(ground.accounts)
        self.cursors: dict[str, str] = {}
        self.starts: dict[str, int] = {}
        """The first legs of the pages."""

    async def connect(self) -> None:
        """Open the connection for the reads; the service closes connections that are idle for some seconds."""
        self.connection = await Connection.open(self.giro.port)

    async def walk(self, depth: int) -> None:
        """Find the cursors of the pages at a depth, like a client: through the pages before."""
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
        """Return a random read: any transfer, any account, or the page at that depth."""
        if kind == POLL:
            return self.giro.path_of(self.any_sequence())
        if kind == BALANCE:
            return f"/accounts/{random.choice(self.ground.accounts)}"
        return f"/accounts/{self.account_of(kind)}/transactions?limit={PAGE}&cursor={self.cursors[kind]}"

    def account_of(self, kind: str) -> str:
        """Return the account of the page."""
        return self.ground.apart if kind == APART else self.ground.dense

    def any_sequence(self) -> int:
        """Return a random transfer, except for the bank's deposits at the start of the ledger."""
        return random.randint(self.deposits + 1, self.newest)

    async def ask(self, path: str) -> tuple[int, bytes]:
        return await self.connection.ask(f"GET {path}", self.headers)

    def _legs(self, account: str) -> int:
        query = "SELECT count(*) FROM transactions WHERE account_id = (SELECT id FROM accounts WHERE public_id = ?)"
        legs: int = self.giro.ledger.execute(query, (UUID(account).bytes,)).fetchone()[0]
        return legs


async def time_reads(results: Results, sides: Sequence[Side], kind: str, count: int) -> None:
    """Read from each side in turn, one request at a time; record the median and the 99th percentile of the times.

    Also record the API's processor time per answer, which varies less on a busy machine.
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


# --- constant figures --------------------------------------------------------------------------------------------


async def count_reads(results: Results, side: Side, kind: str) -> None:
    """Record the average cost of a read: pages of the file, and steps of SQLite's virtual machine."""
    database = Database(load_settings(_env_file=None, data_dir=side.giro.stack.data))
    costs = [await _cost(database, side, kind) for _ in range(SAMPLES)]
    results.add(f"{kind}, {side.name}: read", statistics.mean(pages for pages, _ in costs), "pages of 4 KiB")
    results.add(f"{kind}, {side.name}: done", statistics.mean(steps for _, steps in costs), "steps of SQLite")


async def _cost(database: Database, side: Side, kind: str) -> tuple[int, int]:
    """Read once on a connection with only the schema in its cache."""
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
        pages = _reads() - before - 1  # reading the counter is one read
    await database.async_reader.dispose()
    return pages, steps


def _read_of(side: Side, kind: str) -> Callable[[AsyncSession, int], Awaitable[object]]:
    """Do what the route does to answer."""
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
    """Return the number of read calls of this process so far; SQLite reads one page per call."""
    return int(Path("/proc/self/io").read_text().partition("syscr: ")[2].split()[0])
