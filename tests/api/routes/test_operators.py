"""The operators' calls: for operators only, as strict as the others, effective at once, and recorded."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests import builders
from tests.api.conftest import PASSWORD, Api, Pair, Person, masked, payment, refused
from tests.api.contract import Contract, Json

Settle = Callable[[], int]

ROUTES: dict[tuple[str, str], Json] = {
    ("GET", "/operator/users"): None,
    ("POST", "/operator/users/{user_id}/deactivate"): None,
    ("POST", "/operator/users/{user_id}/reactivate"): None,
    ("POST", "/operator/users/{user_id}/erase"): None,
    ("PUT", "/operator/users/{user_id}/pending-limit"): {"transfers": 5},
    ("GET", "/operator/accounts"): None,
    ("GET", "/operator/accounts/{account_id}"): None,
    ("POST", "/operator/accounts/{account_id}/freeze"): {"scope": "all"},
    ("POST", "/operator/accounts/{account_id}/unfreeze"): None,
    ("PUT", "/operator/accounts/{account_id}/overdraft-limit"): {"amount": 5},
    ("GET", "/operator/transfers"): None,
    ("GET", "/operator/transfers/{transfer_id}"): None,
    ("GET", "/operator/queue"): None,
    ("GET", "/operator/audit"): None,
    ("GET", "/operator/dead-letters"): None,
    ("POST", "/operator/dead-letters/{letter_id}/retry"): None,
    ("POST", "/operator/dead-letters/{letter_id}/drop"): None,
    ("GET", "/operator/statement-runs"): None,
    ("GET", "/operator/verification"): None,
}
"""Every route, with a valid body."""

EVERY_ROUTE = pytest.mark.parametrize(("method", "path"), ROUTES)
IDS = ("user_id", "account_id", "transfer_id", "letter_id")
NAMED_BY_THEIR_CODE = ("transfer_id", "letter_id")
"""The only object of a call: its 404 names no field."""
LISTS = ("/operator/users", "/operator/accounts", "/operator/transfers", "/operator/audit")
EVERY_LIST = pytest.mark.parametrize("path", LISTS)


async def freeze(operator: Person, account: Json, scope: str = "all") -> httpx2.Response:
    return await operator.post(f"/operator/accounts/{account['id']}/freeze", {"scope": scope})


async def unfreeze(operator: Person, account: Json) -> httpx2.Response:
    return await operator.post(f"/operator/accounts/{account['id']}/unfreeze")


async def set_limit(operator: Person, account: Json, amount: Any) -> httpx2.Response:
    return await operator.request("PUT", f"/operator/accounts/{account['id']}/overdraft-limit", json={"amount": amount})


NO_LIMIT = {"pending_limit": None}
"""The field of a user that only operators see."""


async def profile(person: Person) -> Json:
    return (await person.get("/users/me")).json()


async def items(operator: Person, path: str) -> list[Json]:
    answer = await operator.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def everything(database: Database) -> list[Any]:
    """The rows that operators change. Rejected calls are recorded a little later: see test_audit.py."""
    acts = "audit_entries WHERE action <> 'access_refused'"
    return [builders.rows(database, f"SELECT * FROM {table}") for table in ("accounts", "reservations", "users", acts)]


def external_id(database: Database) -> str:
    return str(UUID(bytes=builders.external_account(database)["public_id"]))


# --- permitted callers ---


def test_the_table_has_every_route(contract: Contract) -> None:
    documented = {
        (method.upper(), path)
        for path, item in contract.document["paths"].items()
        for method in item
        if path.startswith("/operator")
    }
    assert documented == set(ROUTES)


@EVERY_ROUTE
async def test_every_route_is_for_operators_only(
    api: Api, ada: Person, pair: Pair, database: Database, method: str, path: str
) -> None:
    (transfer,) = builders.rows(database, "SELECT public_id FROM transfers")
    path_now = path.format(
        user_id=(await profile(ada))["id"],
        account_id=pair.payer["id"],
        transfer_id=UUID(bytes=transfer["public_id"]),
        letter_id=uuid4(),
    )
    before = everything(database)
    refused(await api.client.request(method, path_now, json=ROUTES[method, path]), 401, "unauthenticated")
    refused(await ada.request(method, path_now, json=ROUTES[method, path]), 403, "forbidden")
    assert everything(database) == before


@EVERY_ROUTE
async def test_a_caller_without_the_role_learns_nothing_about_errors(
    api: Api, ada: Person, method: str, path: str
) -> None:
    wrong = path.format(**dict.fromkeys(IDS, "x")) + "?limit=x"
    refused(await api.client.request(method, wrong), 401, "unauthenticated")
    refused(await ada.request(method, wrong), 403, "forbidden")


@EVERY_ROUTE
async def test_every_route_answers_an_operator_who_names_a_missing_object(
    operator: Person, method: str, path: str
) -> None:
    body = ROUTES[method, path]
    answer = await operator.request(method, path.format(**dict.fromkeys(IDS, uuid4())), json=body)
    if "{" not in path:
        assert answer.status_code == 200
        return
    name = path.partition("{")[2].partition("}")[0]
    code = "dead_letter_not_found" if name == "letter_id" else name.replace("_id", "_not_found")
    refused(answer, 404, code, None if name in NAMED_BY_THEIR_CODE else f"path.{name}")
    wrong = await operator.request(method, path.format(**dict.fromkeys(IDS, "x")), json=body)
    refused(wrong, 422, "validation_failed", f"path.{name}")


# --- accounts ----------------------------------------------------------------------------------------------------


class TestAnAccount:
    async def test_is_shown_with_fields_that_its_owner_does_not_see(
        self, operator: Person, ada: Person, pair: Pair
    ) -> None:
        await ada.pay(pair.payer, pair.payee, 300)
        answer = await operator.get(f"/operator/accounts/{pair.payer['id']}")
        assert answer.status_code == 200
        assert answer.json() == await ada.account(pair.payer["id"]) | {
            "kind": "customer",
            "owner_id": (await profile(ada))["id"],
            "reserved": 300,
            "freeze_scope": None,
        }
        assert answer.json()["available"] == 9_700

    async def test_without_an_owner_is_shown_too(self, operator: Person, pair: Pair, database: Database) -> None:
        found = (await operator.get(f"/operator/accounts/{external_id(database)}")).json()
        assert (found["kind"], found["owner_id"], found["balance"]) == ("external", None, -10_000)

    async def test_is_listed_oldest_first(self, operator: Person, pair: Pair, database: Database) -> None:
        found = await items(operator, "/operator/accounts")
        ids = builders.rows(database, "SELECT public_id FROM accounts ORDER BY id")
        assert [item["id"] for item in found] == [str(UUID(bytes=row["public_id"])) for row in ids]
        assert {item["id"] for item in found} == {pair.payer["id"], pair.payee["id"], external_id(database)}
        for item in found:
            assert (await operator.get(f"/operator/accounts/{item['id']}")).json() == item

    @pytest.mark.parametrize("scope", ["debit", "all"])
    async def test_that_is_frozen_cannot_pay_until_it_is_unfrozen(
        self, operator: Person, ada: Person, pair: Pair, settle: Settle, scope: str
    ) -> None:
        pending = await ada.pay(pair.payer, pair.payee)
        answer = await freeze(operator, pair.payer, scope)
        assert answer.status_code == 200
        assert (answer.json()["status"], answer.json()["freeze_scope"]) == ("frozen", scope)
        shown = (await ada.get("/accounts")).json()["items"]
        assert [(item["id"], item["status"]) for item in shown] == [(pair.payer["id"], "frozen")]
        assert "freeze_scope" not in shown[0]
        refused(await ada.post("/transfers", payment(pair.payer, pair.payee)), 409, "account_frozen")
        settle()
        ended = (await operator.get(f"/operator/transfers/{pending['id']}")).json()
        assert (ended["status"], ended["failure"]["code"]) == ("failed", "account_frozen")
        answer = await unfreeze(operator, pair.payer)
        assert (answer.status_code, answer.json()["status"], answer.json()["freeze_scope"]) == (200, "active", None)
        await ada.pay(pair.payer, pair.payee)
        assert settle() == 1
        assert (await ada.account(pair.payer["id"]))["balance"] == 9_900

    async def test_with_a_raised_limit_can_pay_more(
        self, operator: Person, ada: Person, pair: Pair, settle: Settle
    ) -> None:
        body = payment(pair.payer, pair.payee, 10_500)
        refused(await ada.post("/transfers", body), 400, "insufficient_funds", "body.amount")
        answer = await set_limit(operator, pair.payer, 500)
        assert answer.status_code == 200
        assert (answer.json()["overdraft_limit"], answer.json()["available"]) == (500, 10_500)
        assert (await ada.post("/transfers", body)).status_code == 202
        settle()
        assert (await ada.account(pair.payer["id"]))["balance"] == -500
        before = (await operator.get("/operator/audit")).json()
        refused(await set_limit(operator, pair.payer, 499), 409, "limit_in_use", "body.amount")
        assert (await operator.get("/operator/audit")).json() == before
        assert (await ada.account(pair.payer["id"]))["overdraft_limit"] == 500

    async def test_that_is_closed_does_not_change(self, operator: Person, pair: Pair, database: Database) -> None:
        builders.close(database, UUID(pair.payee["id"]))
        before = everything(database)
        for answer in (
            await freeze(operator, pair.payee),
            await unfreeze(operator, pair.payee),
            await set_limit(operator, pair.payee, 5),
        ):
            refused(answer, 409, "account_closed")
        assert everything(database) == before

    async def test_without_an_owner_cannot_be_changed(self, operator: Person, pair: Pair, database: Database) -> None:
        external, nothing = {"id": external_id(database)}, {"id": str(uuid4())}
        for act in (freeze, unfreeze, lambda operator, account: set_limit(operator, account, 5)):
            answer = await act(operator, external)
            refused(answer, 404, "account_not_found", "path.account_id")
            assert masked(answer) == masked(await act(operator, nothing))

    @pytest.mark.parametrize("amount", [0, 1, 9 * 10**15])
    async def test_accepts_a_limit_from_0_to_the_maximum(self, operator: Person, pair: Pair, amount: int) -> None:
        answer = await set_limit(operator, pair.payer, amount)
        assert (answer.status_code, answer.json()["overdraft_limit"]) == (200, amount)

    @pytest.mark.parametrize(
        ("body", "location"),
        [({"amount": wrong}, "body.amount") for wrong in (-1, 1.0, "1", True, None, 9 * 10**15 + 1, [1])]
        + [({}, "body.amount"), ({"amount": 1, "currency": "USD"}, "body.currency"), ([], "body")],
        ids=str,
    )
    async def test_rejects_any_other_limit(
        self, operator: Person, pair: Pair, database: Database, body: Json, location: str
    ) -> None:
        before = everything(database)
        path = f"/operator/accounts/{pair.payer['id']}/overdraft-limit"
        refused(await operator.request("PUT", path, json=body), 422, "validation_failed", location)
        assert everything(database) == before

    @pytest.mark.parametrize(
        ("body", "location"),
        [({"scope": wrong}, "body.scope") for wrong in ("credit", "ALL", "", None, 1, True, ["all"])]
        + [({}, "body.scope"), ({"scope": "all", "why": "x"}, "body.why"), ([], "body")],
        ids=str,
    )
    async def test_is_not_frozen_in_an_unknown_scope(
        self, operator: Person, pair: Pair, database: Database, body: Json, location: str
    ) -> None:
        before = everything(database)
        path = f"/operator/accounts/{pair.payer['id']}/freeze"
        refused(await operator.post(path, body), 422, "validation_failed", location)
        assert everything(database) == before


# --- users -------------------------------------------------------------------------------------------------------


class TestAUser:
    async def test_is_listed_oldest_first_without_the_bank_itself(
        self, operator: Person, ada: Person, grace: Person
    ) -> None:
        found = await items(operator, "/operator/users")
        assert found == [await profile(person) | NO_LIMIT for person in (operator, ada, grace)]
        assert [item["role"] for item in found] == ["operator", "customer", "customer"]

    async def test_loses_access_at_once_when_deactivated_and_can_log_in_when_reactivated(
        self, api: Api, operator: Person
    ) -> None:
        mary = await api.sign_up("mary")
        shown = await profile(mary)
        path = f"/operator/users/{shown['id']}"
        form = {"username": mary.email, "password": PASSWORD}

        async def is_out() -> None:
            refused(await mary.get("/users/me"), 401, "unauthenticated")
            refresh = {"refresh_token": mary.refresh_token}
            refused(await api.client.post("/token/refresh", json=refresh), 401, "unauthenticated")

        answer = await operator.post(f"{path}/deactivate")
        assert (answer.status_code, answer.json()) == (200, shown | NO_LIMIT | {"is_active": False})
        await is_out()
        refused(await api.client.post("/login", data=form), 401, "unauthenticated")
        answer = await operator.post(f"{path}/reactivate")
        assert (answer.status_code, answer.json()) == (200, shown | NO_LIMIT)
        await is_out()
        assert await profile(await api.log_in("mary")) == shown

    async def test_that_is_deactivated_pays_no_pending_transfers(
        self, operator: Person, ada: Person, pair: Pair, settle: Settle
    ) -> None:
        pending = await ada.pay(pair.payer, pair.payee)
        ada_id = (await profile(ada))["id"]
        for _ in range(2):
            answer = await operator.post(f"/operator/users/{ada_id}/deactivate")
            assert (answer.status_code, answer.json()["is_active"]) == (200, False)
        settle()
        ended = (await operator.get(f"/operator/transfers/{pending['id']}")).json()
        assert (ended["status"], ended["failure"]["code"]) == ("failed", "owner_inactive")
        acts = await items(operator, f"/operator/audit?object_id={ada_id}")
        assert [entry["action"] for entry in acts] == ["user_deactivated"]

    @pytest.mark.parametrize("act", ["deactivate", "reactivate", "erase"])
    async def test_is_never_the_bank_itself(self, operator: Person, database: Database, act: str) -> None:
        (system,) = builders.rows(database, "SELECT public_id FROM users WHERE role = 'system'")
        answer = await operator.post(f"/operator/users/{UUID(bytes=system['public_id'])}/{act}")
        refused(answer, 404, "user_not_found", "path.user_id")
        assert masked(answer) == masked(await operator.post(f"/operator/users/{uuid4()}/{act}"))


class TestErasing:
    async def test_leaves_no_personal_data_and_frees_the_address(self, api: Api, operator: Person) -> None:
        mary = await api.sign_up("mary")
        shown = await profile(mary)
        path = f"/operator/users/{shown['id']}"
        await operator.post(f"{path}/deactivate")
        answers = [await operator.post(f"{path}/erase") for _ in range(2)]
        erased = NO_LIMIT | {"email": f"{UUID(shown['id']).hex}@erased.invalid", "name": None, "is_active": False}
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json() == answers[1].json() == shown | erased
        assert (await items(operator, "/operator/users"))[-1] == shown | erased
        acts = await items(operator, f"/operator/audit?object_id={shown['id']}&action=user_erased")
        assert [entry["details"] for entry in acts] == [{"accounts_closed": 0, "cards": 0}]
        assert (await profile(await api.sign_up("mary")))["id"] != shown["id"], "another user"

    async def test_is_rejected_for_a_user_with_access_and_cannot_be_undone(self, api: Api, operator: Person) -> None:
        path = f"/operator/users/{(await profile(await api.sign_up('mary')))['id']}"
        refused(await operator.post(f"{path}/erase"), 409, "user_active")
        await operator.post(f"{path}/deactivate")
        await operator.post(f"{path}/erase")
        refused(await operator.post(f"{path}/reactivate"), 409, "user_erased")
        limit = await operator.request("PUT", f"{path}/pending-limit", json={"transfers": 5})
        refused(limit, 409, "user_erased")

    async def test_names_the_account_that_prevents_it(self, operator: Person, ada: Person, pair: Pair) -> None:
        path = f"/operator/users/{(await profile(ada))['id']}"
        await operator.post(f"{path}/deactivate")
        problem = refused(await operator.post(f"{path}/erase"), 409, "account_not_empty")
        assert pair.payer["id"] in problem["detail"]

    async def test_reserves_the_addresses_of_erased_users(self, api: Api) -> None:
        body = {"email": f"{uuid4().hex}@erased.invalid", "password": PASSWORD}
        refused(await api.client.post("/signup", json=body), 422, "validation_failed", "body.email")


# --- transfers, queue, audit -------------------------------------------------------------------------------------


async def test_transfers_of_all_users_are_shown_newest_first(
    operator: Person, ada: Person, pair: Pair, settle: Settle
) -> None:
    first, second = await ada.pay(pair.payer, pair.payee, 1), await ada.pay(pair.payer, pair.payee, 2)
    found = await items(operator, "/operator/transfers")
    assert [item["id"] for item in found[:2]] == [second["id"], first["id"]]
    assert [(item["kind"], item["status"]) for item in found] == [
        ("transfer", "pending"), ("transfer", "pending"), ("deposit", "completed")
    ]  # fmt: skip
    for item in found:
        assert (await operator.get(f"/operator/transfers/{item['id']}")).json() == item
    await freeze(operator, pair.payee)
    await ada.post(f"/transfers/{second['id']}/cancel")
    settle()
    for status, ids in {
        "pending": [],
        "completed": [found[2]["id"]],
        "failed": [first["id"]],
        "cancelled": [second["id"]],
    }.items():
        assert [item["id"] for item in await items(operator, f"/operator/transfers?status={status}")] == ids


async def test_an_unknown_status_is_rejected(operator: Person) -> None:
    for path in ("/operator/transfers?status=lost", "/operator/transfers?status="):
        refused(await operator.get(path), 422, "validation_failed", "query.status")
    refused(await operator.get("/operator/users?status=pending"), 422, "validation_failed", "query.status")


async def test_the_queue_is_shown(operator: Person, ada: Person, pair: Pair, settle: Settle) -> None:
    answer = await operator.get("/operator/queue")
    assert answer.json() == {"pending": 0, "oldest_age_seconds": None, "last_settled_sequence": 1, "parked": 0}
    for _ in range(2):
        await ada.pay(pair.payer, pair.payee)
    found = (await operator.get("/operator/queue")).json()
    assert 0 <= found.pop("oldest_age_seconds") < 60
    assert found == {"pending": 2, "last_settled_sequence": 1, "parked": 0}
    settle()
    answer = await operator.get("/operator/queue")
    assert answer.json() == {"pending": 0, "oldest_age_seconds": None, "last_settled_sequence": 3, "parked": 0}


async def test_every_act_is_in_the_audit_log_newest_first(operator: Person, ada: Person, pair: Pair) -> None:
    ada_id, author_id = (await profile(ada))["id"], (await profile(operator))["id"]
    answers = [
        await freeze(operator, pair.payer, "debit"),
        await unfreeze(operator, pair.payer),
        await set_limit(operator, pair.payer, 700),
        await operator.post(f"/operator/users/{ada_id}/deactivate"),
        await operator.post(f"/operator/users/{ada_id}/reactivate"),
    ]
    found = await items(operator, f"/operator/audit?author_id={author_id}")
    times = [entry.pop("at") for entry in found]
    assert times == sorted(times, reverse=True)
    acts = [
        ("account_frozen", pair.payer["id"], {"scope": "debit"}),
        ("account_unfrozen", pair.payer["id"], {}),
        ("overdraft_limit_set", pair.payer["id"], {"before": 0, "after": 700, "last_transaction": 2}),
        ("user_deactivated", ada_id, {}),
        ("user_reactivated", ada_id, {}),
    ]
    assert found[::-1] == [
        {
            "sequence": number,
            "author_id": author_id,
            "action": action,
            "object_id": object_id,
            "details": details,
            "request_id": answer.headers["x-request-id"],
            "address": "127.0.0.1",
        }
        for number, ((action, object_id, details), answer) in enumerate(zip(acts, answers, strict=True), 2)
    ]


# --- lists -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def seven(operator: Person, ada: Person, pair: Pair, database: Database) -> None:
    """Seven of each listed object: users, accounts, transfers and acts."""
    with unit_of_work(database) as connection:
        people = [builders.add_user(connection) for _ in range(4)]
        for person in people:
            builders.open_account(connection, person)
    for amount in range(1, 7):
        await ada.pay(pair.payer, pair.payee, amount)
    for amount in range(1, 7):  # the first act was a deposit
        await set_limit(operator, pair.payer, amount)


@pytest.mark.usefixtures("seven")
@EVERY_LIST
async def test_a_list_can_be_paged_by_offset(operator: Person, path: str) -> None:
    whole = (await operator.get(path)).json()
    assert (len(whole["items"]), whole["limit"], whole["offset"], whole["next_cursor"]) == (7, 100, 0, None)
    page = (await operator.get(f"{path}?limit=3&offset=2")).json()
    assert (page["items"], page["limit"], page["offset"]) == (whole["items"][2:5], 3, 2)
    following = (await operator.get(f"{path}?limit=3&cursor={page['next_cursor']}")).json()
    assert (following["items"], following["next_cursor"]) == (whole["items"][5:], None)
    assert (await operator.get(f"{path}?offset=7")).json()["items"] == []


@pytest.mark.usefixtures("seven")
@EVERY_LIST
@pytest.mark.parametrize("limit", [1, 3, 6, 7])
async def test_a_list_can_be_paged_by_cursor(operator: Person, path: str, limit: int) -> None:
    whole, seen, cursor = await items(operator, path), [], ""
    for _ in range(-(-7 // limit)):
        page = (await operator.get(f"{path}?limit={limit}{cursor}")).json()
        seen += page["items"]
        cursor = f"&cursor={page['next_cursor']}"
    assert (seen, page["next_cursor"]) == (whole, None)


@pytest.mark.usefixtures("seven")
@EVERY_LIST
async def test_a_list_rejects_the_cursors_of_other_lists(operator: Person, ada: Person, path: str) -> None:
    others = [f"{other}?limit=1" for other in LISTS if other != path] + ["/operator/transfers?status=pending&limit=1"]
    cursors = [(await operator.get(other)).json()["next_cursor"] for other in others]
    cursors.append((await ada.get("/transfers?limit=1")).json()["next_cursor"])
    for cursor in cursors:
        assert cursor is not None
        refused(await operator.get(f"{path}?cursor={cursor}"), 422, "validation_failed", "query.cursor")


@EVERY_LIST
@pytest.mark.parametrize(
    ("query", "location"),
    [
        ("limit=0", "query.limit"), ("limit=1001", "query.limit"), ("limit=1.0", "query.limit"),
        ("offset=-1", "query.offset"), ("offset=10001", "query.offset"), ("offset=0&cursor=x", "query"),
        ("cursor=", "query.cursor"), ("cursor=x", "query.cursor"), ("page=1", "query.page"),
    ],
)  # fmt: skip
async def test_a_list_is_as_strict_as_those_of_customers(
    operator: Person, path: str, query: str, location: str
) -> None:
    refused(await operator.get(f"{path}?{query}"), 422, "validation_failed", location)
