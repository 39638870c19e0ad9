"""A ledger of more than a hundred thousand transfers, written by SQL as the services would have left them."""

from typing import Any, NamedTuple
from uuid import UUID

from core.clock import to_datetime
from core.domain.transfers import TransferStatus
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import WHOLE_TRANSFERS, add_user, open_account, rows

TRANSFERS = 120_000
ACCOUNTS = 1000
"""The accounts of one person: as many as a user can have by default."""
PENDING = 20_000
"""The newest transfers, which are not settled."""
SETTLED = TRANSFERS - PENDING
IDLE = 10
"""The accounts of another person, of which one is busy."""
CANCELLED_AHEAD = 1900
"""The transfers from Cid's busy account that were cancelled after those that are pending."""
START = 1_700_000_000_000_000
"""The time when the first one was accepted, in microseconds; the others follow some milliseconds apart."""

# Ada's accounts have row ids from `first` on; Bob's, Cid's and the bank's follow them. Of each ten transfers,
# four are from Ada to Bob, two from Bob to Ada, two between Ada's accounts, one is from Cid to the bank and one between
# accounts of the bank. Few are failed or cancelled, and all of those are old. Of the newest ones, one in a hundred of
# Ada's is cancelled, all but the first hundred from Cid's busy account, and all from his account that was of no use.
OPEN = (
    """
    WITH RECURSIVE numbers (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < {accounts})
    INSERT INTO accounts (public_id, owner_id, account_number, kind, currency, status, balance, overdraft_limit,
        created_at)
    SELECT randomblob(16), owner_id, account_number || '-' || n, kind, currency, status, 0, 0, created_at
    FROM accounts CROSS JOIN numbers WHERE owner_id = {ada}
    """,
    """
    INSERT INTO reservations (account_id, reserved_count, reserved_high, reserved_low)
    SELECT id, 0, 0, 0 FROM accounts WHERE id NOT IN (SELECT account_id FROM reservations)
    """,
)
LAY_DOWN = """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {transfers})
    INSERT INTO transfers (id, public_id, kind, from_account_id, to_account_id, amount, currency, submitted_by,
        request_id, idempotency_key, fingerprint, answer_version, previous_id, created_at)
    SELECT n, randomblob(16), 'transfer', payer, payee, 1, 'USD', {ada}, 'r',
        iif(n % 5 = 0, 'key-' || n, NULL), iif(n % 5 = 0, x'00', NULL), 1,
        lag(n) OVER (PARTITION BY payer ORDER BY n), {start} + n * 1000 + n * n % 997
    FROM (
        SELECT n,
            CASE WHEN n % 10 < 4 OR n % 10 IN (6, 7) THEN {first} + (n / 10 * 7 + n % 10 * 131) % {accounts}
                WHEN n % 10 < 6 THEN {bob}
                WHEN n % 10 = 8 THEN iif(n < 200, {cid} + 1, {cid})
                WHEN n % 20 = 9 AND n > {settled} THEN {cid} + 2 ELSE {others} END AS payer,
            CASE WHEN n % 10 < 4 THEN {bob} WHEN n % 10 < 6 THEN {first} + (n / 10 * 13 + n % 10) % {accounts}
                WHEN n % 10 < 8 THEN {first} + (n / 10 * 7 + n % 10 * 131 + 1) % {accounts}
                ELSE {others} + 1 END AS payee
        FROM numbers
    ) ORDER BY n
"""
END = """
    INSERT INTO endings (id, status, ended_at, failure_code, payer_id)
    SELECT id, status, created_at, iif(status = 'failed', 'account_frozen', NULL),
        iif(status = 'completed', NULL, from_account_id)
    FROM (
        SELECT id, created_at, from_account_id, CASE
            WHEN id > {settled} THEN iif(
                id % 100 = 7 OR from_account_id = {cid} + 2 OR from_account_id = {cid} AND id > {settled} + 1000,
                'cancelled', NULL
            )
            WHEN id IN (101, 102, 203, 5000) THEN 'failed'
            WHEN id IN (103, 106, 207, 5001) THEN 'cancelled'
            ELSE 'completed' END AS status
        FROM transfers
    ) WHERE status IS NOT NULL ORDER BY id
"""
POST = """
    INSERT INTO transactions (id, transfer_id, account_id, amount, balance_after, posted_at, previous_id)
    SELECT leg, transfer, account, amount, 0, posted_at, lag(leg) OVER (PARTITION BY account ORDER BY leg) FROM (
        SELECT row_number() OVER (ORDER BY t.id, side.amount) AS leg, t.id AS transfer, side.amount,
            iif(side.amount < 0, t.from_account_id, t.to_account_id) AS account, e.ended_at AS posted_at
        FROM endings e JOIN transfers t ON t.id = e.id CROSS JOIN (SELECT -1 AS amount UNION ALL SELECT 1) side
        WHERE e.status = 'completed'
    ) ORDER BY leg
"""
LINK = (
    """
    UPDATE reservations SET reserved_count = sent.count, last_transfer_id = sent.newest FROM (
        SELECT from_account_id AS id, count(*) AS count, max(id) AS newest FROM transfers GROUP BY 1
    ) sent WHERE account_id = sent.id
    """,
    """
    UPDATE accounts SET released_count = ended.count FROM (
        SELECT from_account_id AS id, count(*) AS count FROM endings e JOIN transfers t ON t.id = e.id GROUP BY 1
    ) ended WHERE accounts.id = ended.id
    """,
    """
    UPDATE accounts SET last_transaction_id = posted.newest FROM (
        SELECT account_id AS id, max(id) AS newest FROM transactions GROUP BY 1
    ) posted WHERE accounts.id = posted.id
    """,
    "UPDATE lanes SET next_id = {transfers} + 1 WHERE name = 'accept'",
    "UPDATE lanes SET next_id = (SELECT max(id) + 1 FROM transactions), watermark = {settled} WHERE name = 'settle'",
)
BATCH = """
    INSERT INTO batches (id, public_id, mode, transfer_count, refused, answer_version) VALUES
    (40000, x'00112233445566778899aabbccddeeff', 'independent', 5000, '[]', 1),
    ({settled} + 1, x'00112233445566778899aabbccddeefe', 'independent', 5000, '[]', 1)
"""
BATCH_ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
"""A batch in the middle, which is settled."""
WAITING_BATCH_ID = UUID("00112233-4455-6677-8899-aabbccddeefe")
"""A batch that waits for settlement, apart from what was cancelled."""


class Whole(NamedTuple):
    """A transfer, as it is in the tables."""

    id: int
    status: str
    from_account_id: int
    to_account_id: int
    created_at: int


class LargeLedger:
    """The ledger, and all its transfers, newest first."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with unit_of_work(database) as connection:
            self.ada, self.bob, self.cid, others = (add_user(connection) for _ in range(4))
            open_account(connection, self.ada)
            for statement in OPEN:
                connection.exec_driver_sql(statement.format(accounts=ACCOUNTS, ada=self.ada.id))
            self.bobs = open_account(connection, self.bob)
            self.busy, self.idle, self.useless, *_ = [open_account(connection, self.cid) for _ in range(IDLE)]
            for _ in range(2):
                open_account(connection, others)
            query = "SELECT min(id) FROM accounts WHERE owner_id = ?"
            first, bob, cid, bank = (
                connection.exec_driver_sql(query, (person.id,)).scalar_one()
                for person in (self.ada, self.bob, self.cid, others)
            )
            values = {"transfers": TRANSFERS, "settled": SETTLED, "accounts": ACCOUNTS, "start": START}
            sides = {"first": first, "bob": bob, "cid": cid, "others": bank, "ada": self.ada.id}
            for statement in (LAY_DOWN, END, POST, *LINK, BATCH):
                connection.exec_driver_sql(statement.format(**values, **sides))
        names = ", ".join(Whole._fields)
        query = f"SELECT {names} FROM {WHOLE_TRANSFERS} ORDER BY id DESC"
        self.transfers = [Whole(**row) for row in rows(database, query)]
        query = "SELECT id, owner_id, public_id FROM accounts"
        self.owners = {row["id"]: (row["owner_id"], UUID(bytes=row["public_id"])) for row in rows(database, query)}
        self.accounts = [public_id for owner, public_id in self.owners.values() if owner == self.ada.id]
        self._lists: dict[tuple[int, UUID | None], list[Whole]] = {}

    def list_of(self, owner: int, account: UUID | None) -> list[Whole]:
        """Return the whole list of a person, or of one account of the person, newest first."""
        if (owner, account) not in self._lists:
            self._lists[owner, account] = [item for item in self.transfers if self._belongs(item, owner, account)]
        return self._lists[owner, account]

    def _belongs(self, transfer: Whole, owner: int, account: UUID | None) -> bool:
        sides = [transfer.from_account_id]
        if transfer.status == TransferStatus.COMPLETED:
            sides.append(transfer.to_account_id)
        return any(self.owners[side][0] == owner and account in (None, self.owners[side][1]) for side in sides)


def moment(sequence: int) -> Any:
    """A time after the previous transfer was accepted, and not after this one was."""
    return to_datetime(START + sequence * 1000)
