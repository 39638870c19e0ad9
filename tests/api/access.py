"""The access table: every call of the API, its permitted callers, and a world in which each call has an effect.

`test_access.py` and its neighbours use the table. They fail if a call is in the OpenAPI document but not in the table,
or the other way round.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any
from uuid import UUID, uuid4

import httpx2

from core.domain.dead_letters import Letter
from core.domain.users import Role
from core.ids import new_id
from core.security.access_tokens import Claims
from core.security.card_vault import CardVault
from core.security.passwords import Passwords
from core.services import dead_letters
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests import builders
from tests.api.conftest import PASSWORD, Api, Person, owner_of
from tests.api.contract import Json
from tests.months import make_statements
from tests.time_travel import Clock

PASSWORD_HASH = Passwords(4).hash(PASSWORD)
MONTH = "2026-01"


class Whose(Enum):
    """The callers that a call accepts, and the things that it then concerns."""

    PUBLIC = auto()
    """Everybody, with or without a token."""
    OWN = auto()
    """Every user with a token, for their own things: a list, or themselves."""
    OWNER = auto()
    """The owner of the thing that the call names. For all others, operators included, the thing does not exist."""
    OPERATOR = auto()
    """Operators."""


PUBLIC, OWN, OWNER, OPERATOR = Whose.PUBLIC, Whose.OWN, Whose.OWNER, Whose.OPERATOR


@dataclass(frozen=True, slots=True)
class Call:
    """A call as its owner makes it, with placeholders for the world's things, and the expected answer."""

    whose: Whose
    status: int
    """The status for accepted callers."""
    body: Json = None
    form: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None
    """OWNER: the error code for all other callers, with status 404."""


def _order(**more: Any) -> Json:
    return {"from_account_id": "{account_id}", "to_account_id": "{callers_account}", "amount": 1} | more


_NEW_PASSWORD = {"current_password": PASSWORD, "new_password": "another battery staple"}
_KEY = {"Idempotency-Key": "payroll"}

CALLS: dict[str, Call] = {
    # --- public
    "GET /": Call(PUBLIC, 200),
    "GET /health": Call(PUBLIC, 200),
    "GET /health/live": Call(PUBLIC, 200),
    "GET /health/ready": Call(PUBLIC, 200),
    "POST /signup": Call(PUBLIC, 201, {"email": "{new_email}", "password": PASSWORD}),
    "POST /login": Call(PUBLIC, 401, form={"username": "nobody@example.com", "password": PASSWORD}),
    "POST /token/refresh": Call(PUBLIC, 401, {"refresh_token": "none that was ever given"}),
    # --- the caller
    "GET /users/me": Call(OWN, 200),
    "POST /users/me/password": Call(OWN, 204, _NEW_PASSWORD),
    "POST /logout": Call(OWN, 204),
    # --- accounts
    "POST /accounts": Call(OWN, 201, {"currency": "EUR"}),
    "GET /accounts": Call(OWN, 200),
    "GET /accounts/{account_id}": Call(OWNER, 200, code="account_not_found"),
    "GET /accounts/{account_id}/transactions": Call(OWNER, 200, code="account_not_found"),
    "POST /accounts/{empty_account_id}/close": Call(OWNER, 200, code="account_not_found"),
    # --- statements
    "GET /accounts/{account_id}/statement": Call(OWNER, 200, code="account_not_found"),
    "GET /accounts/{account_id}/statement?month=" + MONTH: Call(OWNER, 200, code="account_not_found"),
    "GET /accounts/{account_id}/statements": Call(OWNER, 200, code="account_not_found"),
    "POST /accounts/{account_id}/statements": Call(OWNER, 202, {"month": MONTH}, code="account_not_found"),
    "GET /statements/{statement_id}": Call(OWNER, 200, code="statement_not_found"),
    "GET /documents/{document_id}": Call(OWNER, 202, code="document_not_found"),
    # --- cards
    "POST /cards": Call(OWNER, 201, {"account_id": "{account_id}", "type": "debit"}, code="account_not_found"),
    "GET /cards": Call(OWN, 200),
    "GET /cards/{card_id}": Call(OWNER, 200, code="card_not_found"),
    "POST /cards/{card_id}/freeze": Call(OWNER, 200, code="card_not_found"),
    "POST /cards/{card_id}/unfreeze": Call(OWNER, 200, code="card_not_found"),
    "POST /cards/{card_id}/cancel": Call(OWNER, 200, code="card_not_found"),
    # --- transfers
    "POST /transfers": Call(OWNER, 202, _order(), code="account_not_found"),
    "POST /transfers/bulk": Call(
        OWNER, 202, {"mode": "atomic", "transfers": [_order()]}, headers=_KEY, code="account_not_found"
    ),
    "GET /transfers": Call(OWN, 200),
    "GET /transfers?account_id={account_id}": Call(OWNER, 200, code="account_not_found"),
    "GET /transfers?account_id={account_id}&status=completed": Call(OWNER, 200, code="account_not_found"),
    "GET /transfers?batch_id={batch_id}": Call(OWN, 200),
    "GET /transfers?idempotency_key={key}": Call(OWN, 200),
    "GET /transfers/{transfer_id}": Call(OWNER, 200, code="transfer_not_found"),
    "GET /transfers/{completed_id}": Call(OWNER, 200, code="transfer_not_found"),
    "POST /transfers/{transfer_id}/cancel": Call(OWNER, 200, code="transfer_not_found"),
    # --- the bank
    "POST /deposits": Call(OPERATOR, 202, {"to_account_id": "{account_id}", "amount": 1}),
    "POST /withdrawals": Call(OPERATOR, 202, {"from_account_id": "{account_id}", "amount": 1}),
    "GET /operator/users": Call(OPERATOR, 200),
    "POST /operator/users/{user_id}/deactivate": Call(OPERATOR, 200),
    "POST /operator/users/{user_id}/reactivate": Call(OPERATOR, 200),
    "POST /operator/users/{gone_user_id}/erase": Call(OPERATOR, 200),
    "PUT /operator/users/{user_id}/pending-limit": Call(OPERATOR, 200, {"transfers": 5}),
    "GET /operator/accounts": Call(OPERATOR, 200),
    "GET /operator/accounts/{account_id}": Call(OPERATOR, 200),
    "POST /operator/accounts/{account_id}/freeze": Call(OPERATOR, 200, {"scope": "all"}),
    "POST /operator/accounts/{account_id}/unfreeze": Call(OPERATOR, 200),
    "PUT /operator/accounts/{account_id}/overdraft-limit": Call(OPERATOR, 200, {"amount": 500}),
    "GET /operator/transfers": Call(OPERATOR, 200),
    "GET /operator/transfers/{transfer_id}": Call(OPERATOR, 200),
    "GET /operator/queue": Call(OPERATOR, 200),
    "GET /operator/dead-letters": Call(OPERATOR, 200),
    "POST /operator/dead-letters/{letter_id}/retry": Call(OPERATOR, 204),
    "POST /operator/dead-letters/{letter_id}/drop": Call(OPERATOR, 204),
    "GET /operator/statement-runs": Call(OPERATOR, 200),
    "GET /operator/verification": Call(OPERATOR, 200),
    "GET /operator/audit": Call(OPERATOR, 200),
}
"""Every operation, by method and path. Paths have placeholders for the world's things; a query makes another row
of the same operation."""

READS = ("GET", "HEAD")

Things = dict[str, str]
"""The ids that replace the placeholders in a call."""


@dataclass(frozen=True, slots=True)
class World:
    """Ada, who has one of everything; Eve, who has an account; an operator; and a token without a user."""

    api: Api
    database: Database
    things: Things
    ada: Person
    eve: Person
    operator: Person
    accounts: Mapping[str, str]
    """The account that receives money, by the caller's address."""

    @property
    def missing(self) -> Things:
        """The same placeholders, for things that do not exist."""
        return {name: str(uuid4()) for name in self.things} | {"key": self.things["key"]}

    @property
    def secrets(self) -> list[str]:
        """Every value that would reveal Ada's things in an answer to another user."""
        return [*self.things.values(), self.ada.email]

    async def ask(self, name: str, who: Person | None, things: Things | None = None) -> httpx2.Response:
        """Make a call of the table as a user, about Ada's things unless others are given."""
        return await self.make(name, CALLS[name], who, self.things if things is None else things)

    async def make(self, name: str, call: Call, who: Person | None, things: Things) -> httpx2.Response:
        """Make a call as a user, about the given things; `name` is its method and path."""
        account = self.accounts[who.email if who else self.ada.email]
        fresh = {"new_email": f"{uuid4().hex}@example.com", "callers_account": account}
        known = things | fresh
        method, path = _filled(name, known).split(" ", 1)
        more: dict[str, Any] = {"headers": dict(call.headers)}
        if call.body is not None:
            more["json"] = _filled(call.body, known)
        if call.form is not None:
            more["data"] = dict(call.form)
        if who is None:
            return await self.api.client.request(method, path, **more)
        return await who.request(method, path, **more)


def _filled(part: Any, things: Things) -> Any:
    if isinstance(part, str):
        return re.sub(r"\{(\w+)\}", lambda found: things[found[1]], part)
    if isinstance(part, dict):
        return {name: _filled(item, things) for name, item in part.items()}
    return [_filled(item, things) for item in part] if isinstance(part, list) else part


def operation_of(name: str, paths: Json) -> tuple[str, str]:
    """Find the operation of the document for a row: its path and its method."""
    method, path = name.partition("?")[0].split(" ", 1)
    shape = re.sub(r"\{\w+\}", "{}", path)
    found = [known for known in paths if re.sub(r"\{\w+\}", "{}", known) == shape]
    assert found, f"the document has no {name}"
    return found[0], method.lower()


def writes() -> list[str]:
    """The calls that write and need a token."""
    return [name for name, call in CALLS.items() if not name.startswith(READS) and call.whose is not PUBLIC]


def _join(api: Api, database: Database, name: str, role: Role = Role.CUSTOMER) -> Person:
    with unit_of_work(database) as connection:
        user = builders.add_user(connection, f"{name}@example.com", role=role, password_hash=PASSWORD_HASH)
    return Person(api.client, user.email, api.runtime.access_tokens.issue(Claims(user.public_id, 0)), "")


def _open(database: Database, person: Person, funds: int = 0) -> UUID:
    with unit_of_work(database) as connection:
        account = builders.open_account(connection, owner_of(connection, person))
    if funds:
        builders.fund(database, account, funds)
    return account


def _document(database: Database, person: Person, account: UUID) -> str:
    document = new_id()
    with unit_of_work(database) as connection:
        builders.add_document(connection, owner_of(connection, person), account, document)
    return str(document)


async def make_world(api: Api, database: Database, clock: Clock) -> World:
    """Make a bank on 10 March 2026, whose customer Ada has one of everything that a call can concern."""
    ada, eve = (_join(api, database, name) for name in ("ada", "eve"))
    operator = _join(api, database, "operator", Role.OPERATOR)
    account, empty = _open(database, ada, funds=10_000), _open(database, ada)
    accounts = {ada.email: str(empty), eve.email: str(_open(database, eve))}
    accounts[operator.email] = str(_open(database, operator))
    completed = await ada.post(
        "/transfers", {"from_account_id": str(account), "to_account_id": str(empty), "amount": 7}
    )
    builders.settle_all(database)
    back = {"from_account_id": str(empty), "to_account_id": str(account), "amount": 7}
    await ada.post("/transfers", back)
    builders.settle_all(database)
    clock.set(2026, 3, 10)
    make_statements(database)
    return World(
        api,
        database,
        things={
            "account_id": str(account),
            "empty_account_id": str(empty),
            "completed_id": completed.json()["id"],
            "statement_id": (await ada.get(f"/accounts/{account}/statements")).json()["items"][0]["id"],
            "document_id": _document(database, ada, account),
            "user_id": (await ada.get("/users/me")).json()["id"],
            "gone_user_id": _somebody_gone(database),
            "card_id": _card(database, api.runtime.card_vault, ada, account),
            "letter_id": _dead_letter(database),
            **await _pending(ada, account, accounts[eve.email]),
        },
        ada=ada,
        eve=eve,
        operator=operator,
        accounts=accounts,
    )


def _card(database: Database, vault: CardVault, owner: Person, account: UUID) -> str:
    with database.reader.connect() as connection:
        row_id = owner_of(connection, owner)
    holder = builders.Person(row_id, account, owner.email)
    return str(builders.issue_card(database, vault, holder, account).view.id)


def _somebody_gone(database: Database) -> str:
    with unit_of_work(database) as connection:
        user = builders.add_user(connection)
    builders.deactivate(database, user)
    return str(user.public_id)


def _dead_letter(database: Database) -> str:
    for _ in range(3):
        with unit_of_work(database) as connection:
            dead_letters.fail(connection, Letter("statements", "make_statement_group", (5,)), ZeroDivisionError())
    return str(UUID(bytes=builders.rows(database, "SELECT public_id FROM dead_letters")[0]["public_id"]))


async def _pending(ada: Person, account: UUID, payee: str) -> Things:
    """Submit a transfer and a batch that stay pending."""
    order = {"from_account_id": str(account), "to_account_id": payee, "amount": 5}
    key = "a-key-of-adas"
    transfer = (await ada.post("/transfers", order, headers={"Idempotency-Key": key})).json()
    body = {"mode": "independent", "transfers": [order]}
    batch = (await ada.post("/transfers/bulk", body, headers={"Idempotency-Key": "a-batch-of-adas"})).json()
    return {"transfer_id": transfer["id"], "key": key, "batch_id": batch["batch_id"]}


Snapshot = dict[str, list[tuple[Any, ...]]]

NOT_COMPARED = ("sqlite_sequence", "audit_entries")
"""Tables for records of rejected calls."""


def snapshot(database: Database) -> Snapshot:
    """All rows of all tables, except the records of rejected callers."""
    with database.reader.connect() as connection:
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
        return {
            name: [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {name}")]
            for name in tables
            if name not in NOT_COMPARED
        }


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """The tables that have changed."""
    return [name for name in before if before[name] != after[name]]
