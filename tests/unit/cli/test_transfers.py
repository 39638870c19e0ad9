"""`giro transfers import`: the format of the file, the result of each line, and no duplicates in a second run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from core.services.verification import verify
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, balance_of, deactivate, fund, rows, settle_all
from tests.unit.cli.test_cli import everything_said, giro

pytestmark = pytest.mark.funded(ada_has=10_000)

HEADER = "from,to,amount,currency,description"
Import = Callable[..., Result]


@pytest.fixture
def import_lines(tmp_path: Path, bank: Bank) -> Import:
    """Import a file with these lines; Ada's and Bob's accounts replace ADA and BOB."""

    def run(*lines: str, header: str = HEADER, options: tuple[str, ...] = (), user: str = bank.ada.email) -> Result:
        text = "\n".join([header, *lines, ""])
        file = tmp_path / "payroll.csv"
        file.write_text(text.replace("ADA", str(bank.ada_account)).replace("BOB", str(bank.bob_account)))
        return giro("transfers", "import", str(file), "--user", user, *options)

    return run


@pytest.fixture
def three_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of three lines, so that a few lines make several batches."""
    monkeypatch.setattr("core.cli.transfers.TOGETHER", 3)


def submitted(database: Database) -> int:
    return len(rows(database, "SELECT 1 FROM transfers WHERE kind = 'transfer'"))


def number_of(database: Database, account: object) -> str:
    (row,) = rows(database, "SELECT account_number FROM accounts WHERE public_id = ?", account.bytes)  # type: ignore[attr-defined]
    return str(row["account_number"])


def test_every_line_becomes_a_transfer(import_lines: Import, database: Database, bank: Bank) -> None:
    result = import_lines("ADA,BOB,100,USD,May", "ADA,BOB,200,,", 'ADA,BOB,300,,"bonus, late"')
    assert (result.exit_code, "accepted 3 transfers" in everything_said(result)) == (0, True)
    assert settle_all(database) == 3
    assert balance_of(database, bank.bob_account) == 600
    query = "SELECT description FROM transfers WHERE kind = 'transfer' ORDER BY id"
    assert [row["description"] for row in rows(database, query)] == ["May", None, "bonus, late"]
    assert verify(database).holds


def test_accounts_can_be_named_by_number(import_lines: Import, database: Database, bank: Bank) -> None:
    payer, payee = number_of(database, bank.ada_account), number_of(database, bank.bob_account)
    assert import_lines(f"{payer},{payee},100,,").exit_code == 0
    settle_all(database)
    assert balance_of(database, bank.bob_account) == 100


def test_optional_columns_can_be_missing_and_the_order_is_free(import_lines: Import, database: Database) -> None:
    assert import_lines("100,ADA,BOB", header="Amount, from ,to").exit_code == 0
    assert submitted(database) == 1


@pytest.mark.usefixtures("three_together")
def test_a_second_run_submits_nothing_twice(import_lines: Import, database: Database, bank: Bank) -> None:
    lines = [f"ADA,BOB,{amount},," for amount in range(1, 8)]
    assert import_lines(*lines).exit_code == 0
    settle_all(database)
    again = import_lines(*lines)
    assert "accepted 7 transfers, 7 of them by an earlier run" in everything_said(again)
    assert settle_all(database) == 0
    assert balance_of(database, bank.bob_account) == 28


@pytest.mark.usefixtures("three_together")
def test_an_interrupted_run_can_be_completed(
    import_lines: Import, database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"ADA,BOB,{amount},," for amount in range(1, 8)]
    with monkeypatch.context() as patch:
        patch.setattr("core.cli.transfers.Outcome.add", interrupted_after(2))
        assert import_lines(*lines).exit_code != 0
    assert submitted(database) == 6
    again = import_lines(*lines)
    assert "accepted 7 transfers, 6 of them by an earlier run" in everything_said(again)
    settle_all(database)
    assert balance_of(database, bank.bob_account) == 28


def interrupted_after(count: int) -> Callable[..., None]:
    calls = iter(range(1, count + 1))

    def add(*_: object) -> None:
        if next(calls) == count:
            raise KeyboardInterrupt

    return add


@pytest.mark.usefixtures("three_together")
def test_a_second_atomic_run_submits_nothing_twice(import_lines: Import, database: Database, bank: Bank) -> None:
    lines = ["ADA,BOB,9999999,,"] * 3 + ["ADA,BOB,5,,"]
    assert import_lines(*lines).exit_code == 1, "the first three are rejected, and bind no key"
    fund(database, bank.ada_account, 10**8)
    again = import_lines(*lines, options=("--atomic",))
    assert (again.exit_code, "idempotency_key_reused" in everything_said(again)) == (1, True)
    assert submitted(database) == 1


@pytest.mark.parametrize("key", ["", "two words", "ä", "x" * 241])
def test_a_name_that_makes_invalid_keys_is_rejected(key: str, import_lines: Import, database: Database) -> None:
    result = import_lines("ADA,BOB,1,,", options=("--key", key))
    assert (result.exit_code, "--key" in everything_said(result)) == (2, True), everything_said(result)
    assert submitted(database) == 0


def test_a_name_of_the_maximum_length_is_accepted(import_lines: Import) -> None:
    assert import_lines("ADA,BOB,1,,", options=("--key", "x" * 240)).exit_code == 0


def test_the_same_file_is_paid_again_under_another_key(import_lines: Import, database: Database) -> None:
    import_lines("ADA,BOB,100,,")
    assert import_lines("ADA,BOB,100,,", options=("--key", "june")).exit_code == 0
    assert submitted(database) == 2


def test_another_file_under_the_same_key_is_rejected(import_lines: Import, database: Database) -> None:
    import_lines("ADA,BOB,100,,", options=("--key", "june"))
    result = import_lines("ADA,BOB,101,,", options=("--key", "june"))
    assert (result.exit_code, "idempotency_key_reused" in everything_said(result)) == (1, True)
    assert submitted(database) == 1


def test_a_rejected_line_is_named_and_the_others_are_accepted(import_lines: Import, database: Database) -> None:
    nobody = "01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1f"
    result = import_lines("ADA,BOB,100,,", f"ADA,{nobody},100,,", "ADA,BOB,9999,,", f"{nobody},BOB,1,,")
    said = everything_said(result)
    assert result.exit_code == 1
    assert "accepted 1 transfer" in said
    assert "3 account_not_found" in said
    assert "4 insufficient_funds" in said
    assert "5 account_not_found" in said
    assert "3 lines were refused" in said
    assert submitted(database) == 1


def test_atomic_accepts_all_or_nothing(import_lines: Import, database: Database) -> None:
    result = import_lines("ADA,BOB,100,,", "ADA,BOB,9999,,", options=("--atomic",))
    assert (result.exit_code, "insufficient_funds" in everything_said(result)) == (1, True)
    assert submitted(database) == 0
    assert import_lines("ADA,BOB,100,,", "ADA,BOB,200,,", options=("--atomic",)).exit_code == 0
    assert rows(database, "SELECT mode, transfer_count FROM batches") == [{"mode": "atomic", "transfer_count": 2}]


def test_another_users_account_cannot_pay(import_lines: Import, database: Database, bank: Bank) -> None:
    result = import_lines("ADA,BOB,100,,", user=bank.bob.email)
    assert (result.exit_code, "account_not_found" in everything_said(result)) == (1, True)
    assert submitted(database) == 0


def test_an_unknown_or_deactivated_user_submits_nothing(import_lines: Import, database: Database, bank: Bank) -> None:
    deactivate(database, bank.ada)
    for user in (bank.ada.email, "nobody@example.com"):
        result = import_lines("ADA,BOB,100,,", user=user)
        assert (result.exit_code, "user_not_found" in everything_said(result)) == (1, True)
    assert submitted(database) == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ADA,BOB,0,,", "line 3: amount must be whole minor units"),
        ("ADA,BOB,-1,,", "line 3: amount"),
        ("ADA,BOB,1.5,,", "line 3: amount"),
        ("ADA,BOB,1e3,,", "line 3: amount"),
        ("ADA,BOB,9999999999999999999999,,", "line 3: amount"),
        ("ADA,BOB,00000000000000001000000000000000000,,", "line 3: amount"),
        ("ADA,BOB,١,,", "line 3: amount"),
        ("ADA,BOB,,,", "line 3: amount"),
        ("me,BOB,1,,", "line 3: from must be an account id or number"),
        ("ADA,,1,,", "line 3: to must be an account id or number"),
        ("ADA,BOB,1,XXX,", "line 3: currency"),
        ("ADA,BOB,1,,a\tb", "line 3: description"),
        ("ADA,BOB,1,," + "x" * 141, "line 3: description"),
        ("ADA,BOB,1", "line 3: the number of fields differs"),
        ("ADA,BOB,1,,,,", "line 3: the number of fields differs"),
        ('ADA,BOB,1,,"open', "the file is not valid CSV"),
    ],
)
def test_one_malformed_line_prevents_the_whole_submission(
    line: str, said: str, import_lines: Import, database: Database
) -> None:
    result = import_lines("ADA,BOB,1,,", line)
    assert (result.exit_code, said in everything_said(result)) == (2, True), everything_said(result)
    assert submitted(database) == 0


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("from,to", "missing: amount"),
        ("from,to,amount,colour", "unknown columns: colour"),
        ("from,to,amount,amount", "names a column twice"),
        ("", "missing: from, to, amount"),
        ("from;to;amount", "missing: from, to, amount (columns are separated by commas)"),
    ],
)
def test_wrong_columns_are_named(header: str, said: str, import_lines: Import) -> None:
    result = import_lines("ADA,BOB,1", header=header)
    assert (result.exit_code, said in everything_said(result)) == (2, True), everything_said(result)


def test_a_file_without_transfers_or_in_another_encoding_is_rejected(import_lines: Import, tmp_path: Path) -> None:
    assert "no transfers" in everything_said(import_lines())
    file = tmp_path / "latin.csv"
    file.write_bytes(f"{HEADER}\nä".encode("latin-1"))
    assert "not in UTF-8" in everything_said(giro("transfers", "import", str(file), "--user", "ada@example.com"))


def test_too_many_lines_for_one_batch_cannot_be_atomic(import_lines: Import) -> None:
    result = import_lines(*["ADA,BOB,1,,"] * 5001, options=("--atomic",))
    assert (result.exit_code, "an atomic import can have at most 5000" in everything_said(result)) == (2, True)


@pytest.mark.parametrize("bound", ["GIRO_BULK_PENDING", "GIRO_PENDING_PER_USER"])
def test_it_waits_for_room_while_too_many_transfers_are_pending(
    import_lines: Import, database: Database, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setenv(bound, "1")
    monkeypatch.setattr("core.cli.transfers.TOGETHER", 1)
    monkeypatch.setattr("core.cli.transfers.time.sleep", lambda _: settle_all(database))
    assert import_lines("ADA,BOB,1,,", "ADA,BOB,2,,", "ADA,BOB,3,,").exit_code == 0
    with unit_of_work(database):
        assert submitted(database) == 3
