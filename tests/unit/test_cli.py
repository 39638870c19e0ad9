"""The command line: what it says, and with which exit status it ends."""

import pytest
from click.testing import Result
from typer.testing import CliRunner

from core.cli import app
from core.storage.engine import Database
from tests.builders import accepted, account_row, bank_of_two, from_ada_to_bob, rows

PASSWORD = "correct horse battery"


def giro(*words: str, stdin: str = "") -> Result:
    """Run a command in this process, on the database in the working directory."""
    return CliRunner().invoke(app, list(words), input=stdin)


def everything_said(result: Result) -> str:
    return " ".join((result.stdout + result.stderr).split())


class TestVerify:
    def test_says_that_every_rule_holds(self, database: Database) -> None:
        bank_of_two(database, ada_has=500)
        result = giro("verify")
        assert (result.exit_code, "every rule holds" in result.stdout) == (0, True)

    def test_lists_what_is_broken_and_ends_with_1(self, database: Database) -> None:
        bank = bank_of_two(database, ada_has=500)
        with database.writer.begin() as connection:
            connection.exec_driver_sql("UPDATE accounts SET balance = 501 WHERE balance = 500")
        assert account_row(database, bank.ada_account)["balance"] == 501
        result = giro("verify")
        assert result.exit_code == 1
        assert "balance_is_sum_of_legs" in result.stdout


class TestStatus:
    def test_shows_what_runs_and_what_waits(self, database: Database) -> None:
        accepted(database, from_ada_to_bob(bank_of_two(database, ada_has=500)))
        said = everything_said(giro("status"))
        assert "1 transfers, the oldest for" in said
        assert "no `giro up` on this database" in said
        assert "settlement not running" in said


class TestDeposit:
    def test_stays_pending_without_a_worker_and_says_so(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("core.cli.DEPOSIT_WAIT_SECONDS", 0)
        bank = bank_of_two(database)
        result = giro("deposit", str(bank.ada_account), "1050")
        assert (result.exit_code, "10.50 USD will be there when" in result.stdout) == (0, True)

    @pytest.mark.parametrize(
        ("account", "status", "word"),
        [
            ("01a20be1-aaf3-7348-b76a-d44e36e2ae05", 1, "account_not_found"),
            ("XG00GIRO00000000000000", 2, "check digits"),
            ("nonsense", 2, "neither an account id"),
        ],
    )
    def test_needs_an_account(self, database: Database, account: str, status: int, word: str) -> None:
        result = giro("deposit", account, "1")
        assert (result.exit_code, word in everything_said(result)) == (status, True)

    @pytest.mark.parametrize("amount", ["0", "-1", "10.50", "1000000000000001", "ten"])
    def test_takes_minor_units_only(self, database: Database, amount: str) -> None:
        assert giro("deposit", "nonsense", "--", amount).exit_code == 2


class TestOperatorCreate:
    def test_makes_an_operator_with_a_password_from_standard_input(self, database: Database) -> None:
        assert giro("operator", "create", "Op@Example.com", stdin=PASSWORD).exit_code == 0
        assert rows(database, "SELECT role FROM users WHERE email = 'op@example.com'") == [{"role": "operator"}]

    @pytest.mark.parametrize("password", ["", "too short", "x" * 129])
    def test_refuses_a_password_out_of_bounds(self, database: Database, password: str) -> None:
        result = giro("operator", "create", "op@example.com", stdin=password)
        assert (result.exit_code, "12 to 128 characters" in everything_said(result)) == (2, True)

    def test_refuses_what_is_no_address_and_one_that_is_taken(self, database: Database) -> None:
        assert giro("operator", "create", "nobody", stdin=PASSWORD).exit_code == 2
        giro("operator", "create", "op@example.com", stdin=PASSWORD)
        assert "email_taken" in everything_said(giro("operator", "create", "op@example.com", stdin=PASSWORD))


class TestOperatorActs:
    def test_freeze_and_unfreeze_an_account_by_number(self, database: Database) -> None:
        bank = bank_of_two(database)
        number = account_row(database, bank.ada_account)["account_number"]
        assert giro("operator", "freeze", number, "--scope", "debit").exit_code == 0
        assert account_row(database, bank.ada_account)["freeze_scope"] == "debit"
        assert giro("operator", "unfreeze", number).exit_code == 0
        assert account_row(database, bank.ada_account)["status"] == "active"

    def test_set_a_limit_by_id(self, database: Database) -> None:
        bank = bank_of_two(database)
        assert giro("operator", "limit", str(bank.ada_account), "5000").exit_code == 0
        assert account_row(database, bank.ada_account)["overdraft_limit"] == 5000

    def test_deactivate_and_reactivate_a_user_by_address(self, database: Database) -> None:
        bank = bank_of_two(database)
        assert giro("operator", "deactivate", bank.ada.email.upper()).exit_code == 0
        assert rows(database, "SELECT is_active FROM users WHERE id = ?", bank.ada.id) == [{"is_active": 0}]
        assert giro("operator", "reactivate", bank.ada.email).exit_code == 0
        assert rows(database, "SELECT is_active FROM users WHERE id = ?", bank.ada.id) == [{"is_active": 1}]

    def test_are_written_down_as_the_banks_own(self, database: Database) -> None:
        bank = bank_of_two(database)
        giro("operator", "limit", str(bank.ada_account), "5000")
        assert rows(database, "SELECT author_id, action, address FROM audit_entries") == [
            {"author_id": 1, "action": "overdraft_limit_set", "address": None}
        ]

    def test_say_who_does_not_exist(self, database: Database) -> None:
        assert "user_not_found" in everything_said(giro("operator", "deactivate", "nobody@example.com"))


class TestSettings:
    def test_are_shown_with_where_they_come_from(
        self, clean_environment: pytest.MonkeyPatch, database: Database
    ) -> None:
        clean_environment.setenv("GIRO_PORT", "8123")
        said = giro("settings").stdout
        assert "GIRO_PORT=8123  (environment)" in said
        assert "GIRO_HOST=127.0.0.1  (default)" in said

    def test_secrets_are_masked(self, clean_environment: pytest.MonkeyPatch, database: Database) -> None:
        clean_environment.setenv("JWT_SECRET", "a secret that nobody may read here")
        said = giro("settings").stdout
        assert "a secret that nobody" not in said
        assert "JWT_SECRET=**********  (environment)" in said


@pytest.mark.parametrize("command", ["verify", "status"])
def test_without_a_database_one_line_says_what_to_do(clean_environment: pytest.MonkeyPatch, command: str) -> None:
    result = giro(command)
    assert result.exit_code == 2
    assert "giro migrate" in everything_said(result)


def test_the_version_is_shown() -> None:
    assert giro("--version").stdout.startswith("giro ")
