"""TigerBeetle, a database only for transfers, with its largest batches and without HTTP."""

import random
import time
from collections.abc import Sequence

import tigerbeetle as tb

BATCH = 8189
FUNDS = 10**12
LEDGER, CODE = 1, 1


class TigerBeetle:
    """An existing cluster; this class adds accounts and transfers between them."""

    def __init__(self, address: str, accounts: int) -> None:
        self._client = tb.ClientSync(cluster_id=0, replica_addresses=address)
        bank = tb.Account(id=tb.id(), ledger=LEDGER, code=CODE)
        flags = tb.AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS
        self._accounts = [tb.Account(id=tb.id(), ledger=LEDGER, code=CODE, flags=flags) for _ in range(accounts)]
        self._bank = bank
        self._moved = FUNDS * accounts
        self._check_all_created(self._client.create_accounts([bank, *self._accounts]))
        self._check_all_created(self._client.create_transfers([_transfer(bank, a, FUNDS) for a in self._accounts]))

    def rate(self, count: int) -> float:
        """Return transfers per second; the batches are written beforehand."""
        batches = [self._batch(min(BATCH, count - start)) for start in range(0, count, BATCH)]
        begun = time.perf_counter()
        for batch in batches:
            self._check_all_created(self._client.create_transfers(batch))
        return count / (time.perf_counter() - begun)

    def check(self) -> None:
        """Raise AssertionError unless all debits equal all credits, and the customers have the funds."""
        accounts = self._client.lookup_accounts([a.id for a in (self._bank, *self._accounts)])
        assert sum(a.debits_posted for a in accounts) == sum(a.credits_posted for a in accounts) == self._moved

    def close(self) -> None:
        self._client.close()

    def _batch(self, size: int) -> list[tb.Transfer]:
        made = [_transfer(*random.sample(self._accounts, 2), random.randint(1, 99)) for _ in range(size)]
        self._moved += sum(transfer.amount for transfer in made)
        return made

    @staticmethod
    def _check_all_created(results: Sequence[tb.CreateAccountResult | tb.CreateTransferResult]) -> None:
        """Raise AssertionError if the cluster refused anything."""
        refused = [result for result in results if result.status.name != "CREATED"]
        assert not refused, refused[:3]


def _transfer(payer: tb.Account, payee: tb.Account, amount: int) -> tb.Transfer:
    sides = {"debit_account_id": payer.id, "credit_account_id": payee.id}
    return tb.Transfer(id=tb.id(), **sides, amount=amount, ledger=LEDGER, code=CODE)
