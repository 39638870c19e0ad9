"""The walk of test_clients.py with the generated Python client: `python walk.py URL EMAIL OPERATOR_TOKEN`.

Runs in the environment .venv-clients, which has the generator and the libraries of the generated code.
"""

import sys
import time
from typing import Any

import httpx
from giro_client import AuthenticatedClient, Client, models
from giro_client.api.accounts import get_account, list_accounts, list_transactions, open_account
from giro_client.api.auth import get_me, log_in, sign_up
from giro_client.api.operator import submit_deposit
from giro_client.api.transfers import get_transfer, submit_transfer

PASSWORD = "correct horse battery"


def poll(transfer_id: Any, client: AuthenticatedClient) -> Any:
    """Read a transfer until it has ended."""
    for _ in range(200):
        found = get_transfer.sync(transfer_id, client=client)
        if found.status is not models.TransferStatus.PENDING:
            break
        time.sleep(0.1)
    return found


def main(url: str, email: str, operator_token: str) -> None:
    public = Client(base_url=url)
    user = sign_up.sync(client=public, body=models.SignUp(email=email, password=PASSWORD, name="Lin"))
    assert (user.email, user.name, user.role) == (email, "Lin", models.Role.CUSTOMER)
    tokens = log_in.sync(client=public, body=models.LogIn(username=email, password=PASSWORD))
    known = models.LogIn(username=email, password=PASSWORD, device_token=tokens.device_token)
    tokens = log_in.sync(client=public, body=known)
    lin = AuthenticatedClient(base_url=url, token=tokens.access_token, timeout=httpx.Timeout(40))
    assert get_me.sync(client=lin) == user

    euro = models.OpenAccount(currency=models.Currency.EUR)
    current, savings = (open_account.sync(client=lin, body=euro) for _ in range(2))
    assert (current.balance, savings.balance_decimal) == (0, "0.00")

    operator = AuthenticatedClient(base_url=url, token=operator_token, timeout=httpx.Timeout(40))
    body = models.NewDeposit(to_account_id=current.id, amount=50_000)
    deposit = submit_deposit.sync(client=operator, body=body, prefer="wait=20")
    assert (deposit.kind, deposit.status) == (models.TransferKind.DEPOSIT, models.TransferStatus.COMPLETED)

    order = models.NewTransfer(from_account_id=current.id, to_account_id=savings.id, amount=12_500)
    accepted = submit_transfer.sync_detailed(client=lin, body=order, idempotency_key="savings")
    assert accepted.status_code == 202
    assert (accepted.parsed.status, accepted.parsed.failure) == (models.TransferStatus.PENDING, None)
    final = poll(accepted.parsed.id, lin)
    assert (final.status, final.amount_decimal) == (models.TransferStatus.COMPLETED, "125.00")
    assert final.settled_at >= final.created_at
    again = submit_transfer.sync_detailed(client=lin, body=order, idempotency_key="savings")
    assert (again.parsed, again.headers["Idempotent-Replayed"]) == (accepted.parsed, "true")
    waited = submit_transfer.sync_detailed(client=lin, body=order, idempotency_key="more-savings", prefer="wait=20")
    assert (waited.status_code, waited.parsed.status) == (200, models.TransferStatus.COMPLETED)

    page = list_transactions.sync(savings.id, client=lin, limit=1)
    rows = [(row.type_, row.amount, row.balance_after) for row in page.items]
    assert rows == [(models.TransactionType.CREDIT, 12_500, 25_000)]
    older = list_transactions.sync(savings.id, client=lin, cursor=page.next_cursor)
    assert [row.transfer_id for row in older.items] == [final.id]
    assert get_account.sync(current.id, client=lin).available == 25_000

    refused = list_accounts.sync_detailed(client=AuthenticatedClient(base_url=url, token="invalid"))
    assert refused.status_code == 401
    assert isinstance(refused.parsed, models.Problem)
    assert refused.parsed.code is models.ErrorCode.UNAUTHENTICATED
    assert refused.parsed.request_id == refused.headers["X-Request-ID"]
    print("walked")


if __name__ == "__main__":
    main(*sys.argv[1:])
