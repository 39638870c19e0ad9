"""A client generated from the OpenAPI document makes the tutorial's calls against a running service.

The how-to page's own command generates it, and warnings count as failures.
"""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx  # the HTTP library of the generated code
import pytest

from tests.flows.stack import PASSWORD, Stack
from tests.waiting import eventually

pytestmark = pytest.mark.whole_service

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-a-generated-client.md"
NAME = "giro_client"


def blocks(language: str) -> list[str]:
    """Return the page's blocks in one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def folder(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where the page's command puts the client."""
    folder = tmp_path_factory.mktemp("client")
    programs = str(Path(sys.executable).parent)
    command = blocks("sh")[0].replace("http://127.0.0.1:8000", stack.url).replace("$PWD/.venv/bin", programs)
    (folder / "data").mkdir()
    done = subprocess.run(
        ["sh", "-eu", "-c", command], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr
    return folder


class Generated:
    """The imported generated package: its calls by group and name, and its models."""

    def __init__(self) -> None:
        package = importlib.import_module(NAME)
        self.models: Any = importlib.import_module(f"{NAME}.models")
        self._client, self._authenticated = package.Client, package.AuthenticatedClient
        self._made: list[Any] = []

    def call(self, group: str, name: str) -> Any:
        return importlib.import_module(f"{NAME}.api.{group}.{name}")

    def public(self, url: str) -> Any:
        return self._kept(self._client(base_url=url))

    def signed_in(self, url: str, token: str) -> Any:
        return self._kept(self._authenticated(base_url=url, token=token, timeout=httpx.Timeout(40)))

    def _kept(self, client: Any) -> Any:
        self._made.append(client)
        return client

    def close(self) -> None:
        """Close the connections of all clients."""
        for client in self._made:
            client.get_httpx_client().close()


@pytest.fixture
def generated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Generated]:
    monkeypatch.syspath_prepend(folder / "data")
    generated = Generated()
    yield generated
    generated.close()
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


def test_generated_client_makes_the_tutorials_calls(stack: Stack, generated: Generated) -> None:
    models, call, public = generated.models, generated.call, generated.public(stack.url)
    email = f"{uuid4().hex[:12]}@example.com"
    user = call("auth", "sign_up").sync(client=public, body=models.SignUp(email=email, password=PASSWORD, name="Lin"))
    assert (user.email, user.name, user.role) == (email, "Lin", models.Role.CUSTOMER)
    tokens = call("auth", "log_in").sync(client=public, body=models.LogIn(username=email, password=PASSWORD))
    lin = generated.signed_in(stack.url, tokens.access_token)
    assert call("auth", "get_me").sync(client=lin) == user

    euro = models.OpenAccount(currency=models.Currency.EUR)
    current, savings = (call("accounts", "open_account").sync(client=lin, body=euro) for _ in range(2))
    assert (current.balance, savings.balance_decimal) == (0, "0.00")

    token = stack.sign_up("operator").headers["Authorization"].removeprefix("Bearer ")
    operator = generated.signed_in(stack.url, token)
    deposit = call("operator", "submit_deposit").sync(
        client=operator, body=models.NewDeposit(to_account_id=current.id, amount=50_000), prefer="wait=20"
    )
    assert (deposit.kind, deposit.status) == (models.TransferKind.DEPOSIT, models.TransferStatus.COMPLETED)

    submit, order = call("transfers", "submit_transfer"), models.NewTransfer(current.id, 12_500, savings.id)
    accepted = submit.sync_detailed(client=lin, body=order, idempotency_key="savings")
    assert accepted.status_code == 202
    assert (accepted.parsed.status, accepted.parsed.failure) == (models.TransferStatus.PENDING, None)
    get = call("transfers", "get_transfer")
    final = eventually(
        lambda: (
            (found := get.sync(accepted.parsed.id, client=lin)).status is not models.TransferStatus.PENDING and found
        )
    )
    assert (final.status, final.amount_decimal) == (models.TransferStatus.COMPLETED, "125.00")
    assert final.settled_at >= final.created_at
    again = submit.sync_detailed(client=lin, body=order, idempotency_key="savings")
    assert (again.parsed, again.headers["Idempotent-Replayed"]) == (accepted.parsed, "true")
    waited = submit.sync_detailed(client=lin, body=order, idempotency_key="more-savings", prefer="wait=20")
    assert (waited.status_code, waited.parsed.status) == (200, models.TransferStatus.COMPLETED)

    page = call("accounts", "list_transactions").sync(savings.id, client=lin, limit=1)
    assert [(row.type_, row.amount, row.balance_after) for row in page.items] == [
        (models.TransactionType.CREDIT, 12_500, 25_000)
    ]
    older = call("accounts", "list_transactions").sync(savings.id, client=lin, cursor=page.next_cursor)
    assert [row.transfer_id for row in older.items] == [final.id]
    assert call("accounts", "get_account").sync(current.id, client=lin).available == 25_000


def test_refusal_is_a_problem_with_its_code(stack: Stack, generated: Generated) -> None:
    models, lin = generated.models, generated.signed_in(stack.url, "no token at all")
    answer = generated.call("accounts", "list_accounts").sync_detailed(client=lin)
    assert answer.status_code == 401
    assert isinstance(answer.parsed, models.Problem)
    assert answer.parsed.code is models.ErrorCode.UNAUTHENTICATED
    assert answer.parsed.request_id == answer.headers["X-Request-ID"]


def test_client_has_every_call_of_the_document(stack: Stack, generated: Generated) -> None:
    document = stack.client.get("/openapi.json").json()
    for item in document["paths"].values():
        for operation in item.values():
            assert generated.call(operation["tags"][0], operation["operationId"]).sync_detailed


def test_program_of_the_page_runs_word_for_word(stack: Stack, folder: Path) -> None:
    (program,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", program.replace("http://127.0.0.1:8000", stack.url)],
        env=os.environ | {"PYTHONPATH": "data"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" 0.00 EUR") == 2
    assert "refused: The available funds do not cover the amount." in done.stdout
