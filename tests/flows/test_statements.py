"""Statements of real processes: they are made automatically for past months, and on request for others."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from core.clock import to_us
from core.domain.statements import Period
from core.domain.users import Role
from core.security.passwords import Passwords
from core.services.verification import verify
from core.settings import load_settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Person, add_user, fund, open_account
from tests.flows.stack import PASSWORD, Client, Stack
from tests.time_travel import Clock
from tests.waiting import eventually

pytestmark = pytest.mark.whole_service


def database_of(stack: Stack, template: Path) -> Database:
    """Create a migrated database for a stack that is not started, and open it."""
    stack.data.mkdir(mode=0o700)
    settings = load_settings(_env_file=None, data_dir=stack.data)
    shutil.copyfile(template, settings.database_path)
    settings.database_path.chmod(0o600)
    return Database(settings)


def log_in(stack: Stack, person: Person) -> Client:
    tokens = stack.client.post("/login", data={"username": person.email, "password": PASSWORD}).json()
    return Client(stack, {"Authorization": f"Bearer {tokens['access_token']}"})


def test_statements_are_made_automatically_and_on_request(
    new_stack: Callable[..., Stack], template_database: Path, clock: Clock
) -> None:
    this_month = Period.of(datetime.now(UTC), UTC)
    last_month, before_last = this_month.preceding, this_month.preceding.preceding
    stack = new_stack()
    database = database_of(stack, template_database)
    clock.now = before_last.starts_at(UTC) + timedelta(days=10)
    with unit_of_work(database) as connection:
        ada = add_user(connection, "ada@example.com", password_hash=Passwords(4).hash(PASSWORD))
        boss = add_user(connection, "boss@example.com", Role.OPERATOR, password_hash=Passwords(4).hash(PASSWORD))
        account = open_account(connection, ada)
    for amount, days in ((500, 0), (30, 31)):
        clock.advance(days=days)
        fund(database, account, amount)
    database.close()

    stack.start()
    client = log_in(stack, ada)
    path = f"/accounts/{account}/statement"
    made = eventually(
        lambda: (answer := client.get(f"{path}?month={last_month}").json())["status"] == "final" and answer
    )
    assert (made["opening_balance"], made["closing_balance"], made["number"]) == (500, 530, 2)
    assert [item["amount"] for item in made["transactions"]] == [30]
    listed = client.get(f"/accounts/{account}/statements").json()["items"]
    assert [item["period"] for item in listed] == [str(last_month), str(before_last)]
    assert client.get(path).json()["status"] == "provisional"

    operator = log_in(stack, boss)
    runs = eventually(lambda: _finished(operator.get("/operator/statement-runs").json()["items"]))
    assert [(run["period"], run["statements"]) for run in runs] == [(str(last_month), 1), (str(before_last), 1)]

    later = _account_of_a_finished_group(stack, client, last_month.starts_at(UTC))
    asked = client.post(f"/accounts/{later}/statements", {"month": str(last_month)})
    assert asked.status_code == 202
    made = eventually(lambda: (answer := client.get(asked.headers["location"]).json())["status"] == "final" and answer)
    assert (made["id"], made["period"], made["transaction_count"]) == (asked.json()["id"], str(last_month), 0)
    database = Database(load_settings(_env_file=None, data_dir=stack.data))
    assert verify(database).holds
    database.close()


def _finished(runs: list[dict[str, object]]) -> list[dict[str, object]]:
    return runs if all(run["finished_at"] for run in runs) else []


def _account_of_a_finished_group(stack: Stack, client: Client, opened_at: datetime) -> str:
    """Open an account now and backdate it, so that no run contains it."""
    account = client.open_account()
    database = Database(load_settings(_env_file=None, data_dir=stack.data))
    with unit_of_work(database) as connection:
        values = (to_us(opened_at), UUID(account).bytes)
        connection.exec_driver_sql("UPDATE accounts SET created_at = ? WHERE public_id = ?", values)
    database.close()
    return account


def test_a_large_document_is_made_in_the_background(new_stack: Callable[..., Stack], template_database: Path) -> None:
    stack = new_stack(document_rows=2)
    database = database_of(stack, template_database)
    with unit_of_work(database) as connection:
        ada = add_user(connection, "ada@example.com", password_hash=Passwords(4).hash(PASSWORD))
        account = open_account(connection, ada)
    for amount in (500, 30, 7):
        fund(database, account, amount)
    database.close()

    stack.start()
    client = log_in(stack, ada)
    asked = client.get(f"/accounts/{account}/statement", Accept="application/pdf")
    assert (asked.status_code, asked.json()["status"]) == (202, "pending")
    path = asked.headers["location"]
    ready = eventually(lambda: (answer := client.get(path)).status_code == 200 and answer)
    assert (ready.headers["content-type"], ready.content[:5]) == ("application/pdf", b"%PDF-")
    assert len(ready.content) == int(ready.headers["content-length"])
    (file,) = (stack.data / "documents").iterdir()
    assert file.read_bytes() == ready.content
    assert stack.stop() == 0
