"""Fixtures of the API's tests: the whole application in this process, its users, and access to its database.

The application is the real one, on a real file, with a queue in this process (fakeredis). There is no worker: `settle`
does what a worker does, over its own `Database` on the same file.
"""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import fakeredis
import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import Connection

import api.app as application
from api.app import create_app
from api.runtime import Runtime
from api.runtime.health import HealthState
from api.schemas.health import CheckOut, Health
from core.domain.users import Role
from core.files.locks import FileLock
from core.security.access_tokens import Claims
from core.security.passwords import Passwords
from core.settings import Settings, load_settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests import builders
from tests.api.contract import Contract, Json
from tests.time_travel import Clock

if TYPE_CHECKING:
    from tests.api.access import World

PASSWORD = "correct horse battery"


@dataclass(frozen=True, slots=True)
class Api:
    """A running application, and a client without a token."""

    app: FastAPI
    client: httpx2.AsyncClient
    queue: fakeredis.FakeServer
    """The server behind the queue; `connected = False` makes it unreachable."""

    @property
    def runtime(self) -> Runtime:
        """The parts of the running application."""
        runtime: Runtime = self.app.state.runtime
        return runtime

    async def health(self) -> Json:
        """Refresh the state of the service, and return every check as operators see it."""
        await self.app.state.health.refresh(self.runtime)
        found: Json = json.loads(self.app.state.health.details().model_dump_json())
        return found

    async def sign_up(self, name: str, password: str = PASSWORD) -> "Person":
        """Sign a user up and log in."""
        body = {"email": f"{name}@example.com", "password": password, "name": name.title()}
        answer = await self.client.post("/signup", json=body)
        assert answer.status_code == 201, answer.text
        return await self.log_in(name, password)

    async def log_in(self, name: str, password: str = PASSWORD) -> "Person":
        """Log a user in who has signed up."""
        form = {"username": f"{name}@example.com", "password": password}
        answer = await self.client.post("/login", data=form)
        assert answer.status_code == 200, answer.text
        tokens = answer.json()
        return Person(self.client, f"{name}@example.com", tokens["access_token"], tokens["refresh_token"])


@dataclass(slots=True)
class Person:
    """A logged-in user, and the requests that the user can send."""

    client: httpx2.AsyncClient
    email: str
    token: str
    refresh_token: str

    async def request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """Send a request with the user's token."""
        given = httpx2.Headers(more.pop("headers", None))
        given["Authorization"] = f"Bearer {self.token}"
        return await self.client.request(method, path, headers=given, **more)

    async def get(self, path: str, **more: Any) -> httpx2.Response:
        """Send a GET with the user's token."""
        return await self.request("GET", path, **more)

    async def post(self, path: str, json: Json = None, **more: Any) -> httpx2.Response:
        """Send a POST with the user's token."""
        return await self.request("POST", path, json=json, **more)

    async def open(self, currency: str = "USD") -> Json:
        """Open an account with a zero balance."""
        answer = await self.post("/accounts", {"currency": currency})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def account(self, account_id: str) -> Json:
        """Read the current state of one of the user's accounts."""
        answer = await self.get(f"/accounts/{account_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def pay(self, payer: Json, payee: Json, amount: int = 100, **more: Any) -> Json:
        """Submit a transfer that must be accepted, and return the body of the 202."""
        answer = await self.post("/transfers", payment(payer, payee, amount, **more))
        assert answer.status_code == 202, answer.text
        return answer.json()


def payment(payer: Json, payee: Json, amount: Any = 100, **more: Any) -> Json:
    """Make the body of a transfer between two accounts in the form that the API returns."""
    return {"from_account_id": payer["id"], "to_account_id": payee["id"], "amount": amount} | more


JSON = {"Content-Type": "application/json"}


def written(body: Json) -> bytes:
    """Write JSON as a careless client may: with escaped lone surrogates and control characters."""
    return json.dumps(body).encode()


def refused(answer: httpx2.Response, status: int, code: str, location: str | None = None) -> Json:
    """Assert that an answer is the expected problem, and return its body."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    if location is not None:
        assert [error["location"] for error in answer.json().get("errors", [])] == [location], answer.text
    return answer.json()


def masked(answer: httpx2.Response) -> bytes:
    """The bytes of an answer with its request id masked; compare them to compare two answers."""
    return answer.content.replace(answer.headers["x-request-id"].encode(), b"-")


async def until(condition: Callable[[], bool | Awaitable[bool]], *, seconds: float = 10) -> None:
    """Wait until a condition holds, and fail at a deadline."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        assert asyncio.get_running_loop().time() < deadline, "the condition did not hold in time"
        await asyncio.sleep(0.002)


@contextmanager
def locked(database: Database) -> Iterator[None]:
    """Block all other writers, as a writing process does: the lock file is the same."""
    lock = FileLock(database.path.with_name(f"{database.path.name}.write.lock"))
    lock.acquire()
    try:
        yield
    finally:
        lock.close()


Start = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture(scope="session")
def contract() -> Contract:
    """The OpenAPI document; no setting changes it."""
    return Contract(create_app(load_settings(_env_file=None)).openapi())


@pytest.fixture
def without_collecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the full garbage collection at an application's start: it costs more than the rest of the start together."""
    monkeypatch.setattr(application, "freeze_garbage_collector", lambda: None)


@pytest.fixture(scope="session")
def first_checks() -> dict[str, CheckOut]:
    """The results of the checks at the start of the session's first application."""
    return {}


@pytest.fixture
def without_refreshing(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, first_checks: dict[str, CheckOut]
) -> None:
    """Refresh the state of the service by `Api.health`, and not in the middle of a test.

    The checks at the start take half of its time, and find the same in each test. So only the first application runs
    them, and those of tests with the marker `checks_at_start`.
    """
    monkeypatch.setattr("api.runtime.health.REFRESH_SECONDS", 3600)
    monkeypatch.setattr("api.runtime.health.STALE_SECONDS", 3600)
    if request.node.get_closest_marker("checks_at_start"):
        return
    really_start = HealthState.start

    async def start(state: HealthState, runtime: Runtime) -> None:
        if first_checks:
            state.take(first_checks)
        else:
            await really_start(state, runtime)
            first_checks.update(state.details().checks if state.ready() is Health.OK else {})

    monkeypatch.setattr(HealthState, "start", start)


@pytest.fixture
def start(
    settings: Settings, database_file: Path, contract: Contract, without_collecting: None, without_refreshing: None
) -> Start:
    """Start an application on this test's database, with changed settings; `queue` can be another's server."""
    assert settings.database_path == database_file

    @asynccontextmanager
    async def started(queue: fakeredis.FakeServer | None = None, **changed: Any) -> AsyncIterator[Api]:
        server = queue or fakeredis.FakeServer()
        app = create_app(
            settings.model_copy(update=changed),
            queue=fakeredis.FakeRedis(server=server),
            tally=fakeredis.FakeAsyncRedis(server=server),
        )
        transport = httpx2.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(
                transport=transport, base_url="http://giro.test", event_hooks={"response": [contract.check]}
            ) as client,
        ):
            yield Api(app, client, server)

    return started


@pytest.fixture
async def api(start: Start) -> AsyncIterator[Api]:
    """An application with default settings."""
    async with start() as running:
        yield running


@pytest.fixture
def client(api: Api) -> httpx2.AsyncClient:
    """A client without a token."""
    return api.client


@pytest.fixture
def ada(api: Api, database: Database) -> Person:
    """A customer, signed up without a password, because hashing takes time. Tests that log in use `Api.sign_up`."""
    return join(api, database, "ada")


@pytest.fixture
def grace(api: Api, database: Database) -> Person:
    """Another customer."""
    return join(api, database, "grace")


@pytest.fixture
def operator(api: Api, database: Database) -> Person:
    """An operator."""
    return join(api, database, "operator", Role.OPERATOR)


def join(api: Api, database: Database, name: str, role: Role = Role.CUSTOMER) -> Person:
    """Sign a user up through the services instead of the API, with the token that a log-in would return."""
    with unit_of_work(database) as connection:
        user = builders.add_user(connection, f"{name}@example.com", role=role)
    token = api.runtime.access_tokens.issue(Claims(user.public_id, 0))
    return Person(api.client, user.email, token, refresh_token="")


def add_operator(database: Database) -> None:
    """Make an operator who can log in, as `giro operator create` does."""
    with unit_of_work(database) as connection:
        builders.add_user(
            connection, "operator@example.com", role=Role.OPERATOR, password_hash=Passwords(4).hash(PASSWORD)
        )


@pytest.fixture
async def world(api: Api, database: Database, clock: Clock) -> "World":
    """A bank whose customer Ada has one of everything that a call can concern."""
    from tests.api.access import make_world  # it imports from this file

    return await make_world(api, database, clock)


@pytest.fixture
def settle(database: Database) -> Callable[[], int]:
    """Settle pending transfers, as a worker does, and return how many ended."""
    return lambda: builders.settle_all(database)


@dataclass(frozen=True, slots=True)
class Pair:
    """Ada's account with a balance, and Grace's empty one, in US dollars: of each the id and the account number."""

    payer: Json
    payee: Json


@pytest.fixture
def pair(ada: Person, grace: Person, database: Database) -> Pair:
    """Ada has 100.00 USD, and Grace has an account."""
    with unit_of_work(database) as connection:
        payer, payee = (builders.open_account(connection, owner_of(connection, person)) for person in (ada, grace))
    builders.fund(database, payer, 10_000)
    return Pair(*(named(builders.account_row(database, account)) for account in (payer, payee)))


def named(row: dict[str, Any]) -> Json:
    """What a request can name an account by, in the form that the API returns."""
    return {"id": str(UUID(bytes=row["public_id"])), "account_number": row["account_number"]}


def owner_of(connection: Connection, person: Person) -> int:
    """The row id of a user."""
    query = "SELECT id FROM users WHERE email = ?"
    row_id: int = connection.exec_driver_sql(query, (person.email,)).scalar_one()
    return row_id


@pytest.fixture
def log_lines(api: Api) -> Iterator[io.StringIO]:
    """The lines that the application writes to its log from now on, in its own format."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    handler.setFormatter(root.handlers[0].formatter)
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


def parsed(stream: io.StringIO) -> list[Json]:
    """The log lines as objects."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]
