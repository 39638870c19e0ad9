"""PostgreSQL for the benchmark: a new cluster with `fsync` on, or an existing one."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from tests.benchmarks.baselines.http import FUNDS
from tests.benchmarks.baselines.served import Served, is_open
from tests.benchmarks.load import Progress
from tests.flows.stack import free_port
from tests.waiting import eventually

SCHEMA = Path(__file__).with_name("transfer.sql")


def binaries() -> Path | None:
    """Find the folder of PostgreSQL's programs: the newest of Debian's, or the one on the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    found = debian[-1] if debian else shutil.which("postgres")
    return Path(found).resolve().parent if found else None


class Postgres(Served):
    """FastAPI and asyncpg on an empty database."""

    def __init__(self, folder: Path, people: int, url: str | None) -> None:
        super().__init__(folder, people)
        self._cluster: Path | None = None
        self._dsn = url or ""

    def start(self) -> None:
        self._dsn = self._dsn or self._start_cluster()
        self._ask(_fill, self.owners)
        self.serve("postgres_app:app", {"BENCH_DSN": self._dsn})

    def progress(self) -> Progress:
        """Count the transfers; they are never pending."""
        return Progress(self._value("SELECT count(*) FROM transfers"), 0)

    def version(self) -> str:
        """Return the version and durability that were measured."""
        return f"{self._value('SHOW server_version')}, fsync {self._value('SHOW fsync')}"

    def check(self) -> None:
        """Raise AssertionError unless balances sum to zero, equal their legs, and every transfer has two."""
        assert self._value("SHOW fsync") == "on"
        assert self._value("SHOW synchronous_commit") == "on"
        assert self._value("SELECT sum(balance)::bigint FROM accounts") == 0
        off = (
            "SELECT count(*) FROM accounts a WHERE a.owner_id <> 0 AND a.balance <> $1 + "
            "(SELECT coalesce(sum(amount), 0) FROM transactions t WHERE t.account_id = a.id)"
        )
        assert self._value(off, FUNDS) == 0
        assert self._value("SELECT count(*) FROM transactions") == 2 * self.progress().accepted

    def close(self) -> None:
        super().close()
        if self._cluster:
            shutil.rmtree(self._cluster)

    def _start_cluster(self) -> str:
        """Create a cluster and run it as a user other than root, because PostgreSQL refuses root."""
        programs, port = binaries(), free_port()
        assert programs is not None, "checked before"
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self._cluster = Path(tempfile.mkdtemp(prefix="giro-bench-postgres-", dir="/var/tmp"))
        if as_user:
            shutil.chown(self._cluster, "postgres")
        data = self._cluster / "data"
        initdb = [str(programs / "initdb"), "-D", str(data), "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run([*as_user, *initdb], check=True, capture_output=True, cwd=self._cluster)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "on",
            "synchronous_commit": "on",
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
        }
        words = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        # Debian's runuser forwards SIGTERM: the cluster then refuses new connections and ends with the last one.
        self.spawn([*as_user, str(programs / "postgres"), "-D", str(data), *words], {})
        eventually(lambda: is_open(port))
        dsn = f"postgresql://bench@127.0.0.1:{port}/postgres"
        eventually(lambda: _answers(dsn))
        return dsn

    def _ask(self, work: Any, *values: Any) -> Any:
        async def ask() -> Any:
            connection = await asyncpg.connect(self._dsn)
            try:
                return await work(connection, *values)
            finally:
                await connection.close()

        return asyncio.run(ask())

    def _value(self, query: str, *values: Any) -> Any:
        return self._ask(lambda connection: connection.fetchval(query, *values))


async def _fill(connection: Any, owners: dict[UUID, int]) -> None:
    """Create the tables and fund the accounts; the money comes from an account of the bank."""
    await connection.execute(SCHEMA.read_text())
    rows = [(account, owner, "USD", "active", FUNDS) for account, owner in owners.items()]
    rows.append((uuid4(), 0, "USD", "active", -FUNDS * len(owners)))
    await connection.executemany("INSERT INTO accounts VALUES ($1, $2, $3, $4, $5)", rows)


def _answers(dsn: str) -> bool:
    async def ask() -> None:
        await (await asyncpg.connect(dsn)).close()

    try:
        asyncio.run(ask())
    except (OSError, asyncpg.PostgresError):
        return False
    return True
