"""The command line: its output and its exit status."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from uuid import UUID

import pytest
from click.testing import Result
from typer.testing import CliRunner

from core.cli import app
from core.cli.console import counted
from core.files.locks import FileLock
from core.processes import heartbeats
from core.security.anchor_key import AnchorKey
from core.security.secrets import Secrets
from core.services.identity import users
from core.services.verification.anchoring import anchor_head
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.sqlite.turnstile import settlement_lock
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    WHOLE_TRANSFERS,
    accepted,
    account_row,
    bank_of_two,
    freeze,
    from_ada_to_bob,
    rows,
    settle_all,
)

PASSWORD = "correct horse battery"


def giro(*words: str, stdin: str = "") -> Result:
    """Run a command in this process, on the database in the working directory."""
    return CliRunner().invoke(app, list(words), input=stdin)


def everything_said(result: Result) -> str:
    return " ".join((result.stdout + result.stderr).split())


def anchored(database: Database, settings: Settings) -> AnchorKey:
    """Sign the newest block of a bank with a key that is not stored here."""
    bank_of_two(database, ada_has=500)
    key = AnchorKey("a key that is kept where the jobs run, and nowhere else")
    assert anchor_head(database, key, settings.anchor_path) is not None
    return key


class TestVerify:
    def test_reports_that_every_rule_holds(self, database: Database) -> None:
        bank_of_two(database, ada_has=500)
        result = giro("verify")
        assert (result.exit_code, "every rule holds" in result.stdout) == (0, True)

    def test_lists_breaches_and_exits_with_1(self, database: Database) -> None:
        bank = bank_of_two(database, ada_has=500)
        with database.writer.begin() as connection:
            connection.exec_driver_sql("UPDATE accounts SET balance = 501 WHERE balance = 500")
        assert account_row(database, bank.ada_account)["balance"] == 501
        result = giro("verify")
        assert result.exit_code == 1
        assert "balance_is_sum_of_legs" in result.stdout

    def test_prints_its_result_as_one_json_object(self, database: Database) -> None:
        bank_of_two(database, ada_has=500)
        found = json.loads(giro("verify", "--json").stdout)
        assert (found["holds"], found["scope"], found["height"], found["transactions"]) == (True, "full", 1, 2)

    def test_stores_its_result_only_on_request(self, database: Database) -> None:
        accepted(database, from_ada_to_bob(bank_of_two(database, ada_has=500)))
        with unit_of_work(database) as connection:
            connection.exec_driver_sql("UPDATE accounts SET released_low = released_low + 1 WHERE balance = 500")
        assert giro("verify").exit_code == 1
        assert giro("verify", "--keep").exit_code == 1
        assert rows(database, "SELECT breaches FROM verifications") == [{"breaches": 1}]
        assert settle_all(database) == 0
        assert "1 breach, so nothing is settled" in everything_said(giro("status"))
        with unit_of_work(database) as connection:
            connection.exec_driver_sql("UPDATE accounts SET released_low = released_low - 1 WHERE balance = 500")
        assert giro("verify", "--keep").exit_code == 0
        assert settle_all(database) == 1
        accepted_since = giro("verify", "--recent", "--json").stdout
        assert json.loads(accepted_since)["transactions"] == 2

    def test_prints_breaches_as_json_too(self, database: Database) -> None:
        bank_of_two(database, ada_has=500)
        with unit_of_work(database) as connection:
            connection.exec_driver_sql("UPDATE accounts SET balance = 501 WHERE balance = 500")
        result = giro("verify", "--json")
        found = json.loads(result.stdout)
        assert (result.exit_code, found["holds"]) == (1, False)
        assert found["counts"]["balance_is_sum_of_legs"] == 1
        assert {breach["rule"] for breach in found["breaches"]} == found["counts"].keys()

    def test_makes_no_key_if_nothing_was_signed(self, database: Database, settings: Settings) -> None:
        bank_of_two(database, ada_has=500)
        result = giro("verify")
        assert (result.exit_code, "0 anchors with no key yet" in result.stdout) == (0, True)
        assert not Secrets(settings).anchor_key.path.exists()

    def test_needs_the_key_of_existing_anchors_and_makes_no_other(self, database: Database, settings: Settings) -> None:
        key = anchored(database, settings)
        for words in ((), ("--keep",), ("--recent",)):
            result = giro("verify", *words)
            assert (result.exit_code, everything_said(result)) == (
                2,
                "giro: there are anchors but no anchor key: set GIRO_ANCHOR_KEY, or give --public-key",
            )
        assert not Secrets(settings).anchor_key.path.exists()
        assert rows(database, "SELECT breaches FROM verifications") == []
        assert giro("verify", "--public-key", key.public.hex()).exit_code == 0

    def test_detects_missing_anchors_without_their_key_as_well(self, database: Database, settings: Settings) -> None:
        key = anchored(database, settings)
        assert giro("verify", "--keep", "--public-key", key.public.hex()).exit_code == 0
        settings.anchor_path.unlink()
        result = giro("verify")
        assert (result.exit_code, "anchor_holds" in result.stdout) == (1, True)

    def test_accepts_a_public_key_of_64_hex_digits(self, database: Database) -> None:
        for wrong in ("7", "zz" * 32):
            assert giro("verify", "--public-key", wrong).exit_code == 2
        assert giro("verify", "--public-key", "07" * 32).exit_code == 0


@contextmanager
def settlement_worker_on(database: Path) -> Iterator[FileLock]:
    """The lock of a settlement worker, as its process holds it."""
    database.parent.mkdir(exist_ok=True)
    lock = settlement_lock(database)
    assert lock.take("the settlement worker")
    yield lock
    lock.close()


@pytest.mark.usefixtures("as_it_was")
class TestMigrate:
    def test_leaves_the_database_of_a_newer_giro_unchanged_and_reports_it(self, database: Database) -> None:
        with database.writer.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        result = giro("migrate")
        assert (result.exit_code, "at migration 9999, from a newer Giro" in everything_said(result)) == (2, True)

    def test_changes_nothing_while_a_settlement_worker_runs_and_names_it(
        self, clean_environment: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with settlement_worker_on(tmp_path / "data" / "banking.db"):
            result = giro("migrate")
        assert (result.exit_code, result.stderr.count("\n")) == (3, 1)
        assert f"process {os.getpid()} on {heartbeats.HOST}, the settlement worker, since" in result.stderr
        assert not (tmp_path / "data" / "banking.db").exists()

    def test_waits_for_a_settlement_worker_to_end_on_request(
        self, clean_environment: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with settlement_worker_on(tmp_path / "data" / "banking.db") as lock:
            clean_environment.setattr("core.cli.service.time.sleep", lambda _seconds: lock.release())
            result = giro("migrate", "--wait", "30")
        assert (result.exit_code, "is at migration" in result.stdout) == (0, True), everything_said(result)
        assert "; stop it first; waiting 30 s for it" in result.stderr

    def test_does_not_need_a_stop_if_nothing_has_to_be_migrated(self, database: Database) -> None:
        with settlement_worker_on(database.path):
            assert giro("migrate").exit_code == 0


class TestDeposit:
    def test_reports_that_it_stays_pending_without_a_worker(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("core.cli.deposit.WAIT_SECONDS", 0)
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
    def test_accepts_minor_units_only(self, database: Database, amount: str) -> None:
        assert giro("deposit", "nonsense", "--", amount).exit_code == 2


class TestWithdraw:
    @pytest.mark.parametrize("description", ["x" * 141, "two\nlines", "\x1b[2J"])
    def test_rejects_a_description_that_the_api_rejects(self, database: Database, description: str) -> None:
        bank = bank_of_two(database, ada_has=2000)
        result = giro("withdraw", str(bank.ada_account), "1050", "--description", description)
        assert (result.exit_code, "at most 140 printable characters" in result.stderr) == (2, True)
        assert account_row(database, bank.ada_account)["reserved"] == 0

    def test_reports_that_it_stays_pending_without_a_worker(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("core.cli.deposit.WAIT_SECONDS", 0)
        bank = bank_of_two(database, ada_has=2000)
        number = account_row(database, bank.ada_account)["account_number"]
        result = giro("withdraw", number, "1050", "--description", "cash")
        assert (result.exit_code, "10.50 USD will be gone when" in result.stdout) == (0, True)
        assert rows(
            database, f"SELECT kind, amount, description, submitted_by FROM {WHOLE_TRANSFERS} WHERE status = 'pending'"
        ) == [{"kind": "withdrawal", "amount": 1050, "description": "cash", "submitted_by": 1}]
        assert account_row(database, bank.ada_account)["reserved"] == 1050

    def test_reports_that_it_is_completed(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("core.cli.deposit.send_wakeup", lambda _broker: settle_all(database))
        bank = bank_of_two(database, ada_has=2000)
        assert giro("withdraw", str(bank.ada_account), "1050").stdout.startswith("withdrew 10.50 USD (transfer ")
        assert giro("deposit", str(bank.ada_account), "5").stdout.startswith("deposited 0.05 USD (transfer ")
        assert account_row(database, bank.ada_account)["balance"] == 955

    def test_exits_with_1_if_it_fails_after_acceptance(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def frozen_first(_broker: object) -> None:
            freeze(database, bank.ada_account)
            settle_all(database)

        monkeypatch.setattr("core.cli.deposit.send_wakeup", frozen_first)
        bank = bank_of_two(database, ada_has=2000)
        result = giro("withdraw", str(bank.ada_account), "1050")
        (transfer,) = rows(database, "SELECT public_id FROM transfers WHERE kind = 'withdrawal'")
        reason = f"The account is frozen. (account_frozen; transfer {UUID(bytes=transfer['public_id'])})"
        assert result.exit_code == 1
        assert everything_said(result) == f"giro: the withdrawal of 10.50 USD failed: {reason}"

    def test_reports_that_the_order_remains_when_it_is_interrupted(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(_database: Database, transfer_id: UUID) -> NoReturn:
            waited_for.append(transfer_id)
            raise KeyboardInterrupt

        waited_for: list[UUID] = []
        monkeypatch.setattr("core.cli.deposit.wait_for_end", interrupted)
        bank = bank_of_two(database, ada_has=2000)
        for command, place in (("withdraw", "gone"), ("deposit", "there")):
            result = giro(command, str(bank.ada_account), "1050")
            assert (result.exit_code, everything_said(result)) == (
                130,
                f"10.50 USD will be {place} when a settlement worker runs (transfer {waited_for[-1]} is pending)",
            )
        assert len(rows(database, f"SELECT id FROM {WHOLE_TRANSFERS} WHERE status = 'pending'")) == 2

    def test_is_rejected_in_one_line_if_the_funds_are_insufficient(self, database: Database) -> None:
        bank = bank_of_two(database, ada_has=100)
        result = giro("withdraw", str(bank.ada_account), "101")
        assert (result.exit_code, "(insufficient_funds)" in everything_said(result)) == (1, True)
        assert "Traceback" not in everything_said(result)

    def test_is_recorded_as_an_act_of_the_bank(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("core.cli.deposit.WAIT_SECONDS", 0)
        bank = bank_of_two(database, ada_has=2000)
        giro("withdraw", str(bank.ada_account), "1050")
        assert rows(database, "SELECT author_id, action, address FROM audit_entries ORDER BY id")[1:] == [
            {"author_id": 1, "action": "withdrawal_ordered", "address": None}
        ]


class TestOperatorCreate:
    @pytest.fixture(autouse=True)
    def quick(self, clean_environment: pytest.MonkeyPatch) -> None:
        """Hash at the lowest cost."""
        clean_environment.setenv("GIRO_PASSWORD_HASH_ROUNDS", "4")

    def test_makes_an_operator_with_a_password_from_standard_input(self, database: Database) -> None:
        assert giro("operator", "create", "Op@Example.com", stdin=PASSWORD).exit_code == 0
        assert rows(database, "SELECT role FROM users WHERE email = 'op@example.com'") == [{"role": "operator"}]

    def test_is_recorded_as_an_act_of_the_bank(self, database: Database) -> None:
        giro("operator", "create", "op@example.com", stdin=PASSWORD)
        (entry,) = rows(database, "SELECT author_id, action, object_id, details, address FROM audit_entries")
        (made,) = rows(database, "SELECT public_id FROM users WHERE email = 'op@example.com'")
        assert entry == {
            "author_id": 1,
            "action": "operator_created",
            "object_id": made["public_id"],
            "details": "{}",
            "address": None,
        }

    @pytest.mark.parametrize("password", ["passwordpassword", "op@example.com", "qwertyuiop[]"])
    def test_rejects_a_password_that_is_easily_guessed(self, database: Database, password: str) -> None:
        result = giro("operator", "create", "op@example.com", stdin=password)
        assert (result.exit_code, "easily guessed" in everything_said(result)) == (1, True)
        assert rows(database, "SELECT id FROM users WHERE role = 'operator'") == []

    def test_rejects_a_password_with_control_characters(self, database: Database) -> None:
        result = giro("operator", "create", "op@example.com", stdin="correct horse\x07battery")
        assert (result.exit_code, "no control characters" in everything_said(result)) == (2, True)

    @pytest.mark.parametrize("password", ["", "too short", "x" * 129])
    def test_rejects_a_password_of_invalid_length(self, database: Database, password: str) -> None:
        result = giro("operator", "create", "op@example.com", stdin=password)
        assert (result.exit_code, "12 to 128 characters" in everything_said(result)) == (2, True)

    def test_rejects_an_invalid_address_and_one_that_is_taken(self, database: Database) -> None:
        assert giro("operator", "create", "nobody", stdin=PASSWORD).exit_code == 2
        giro("operator", "create", "op@example.com", stdin=PASSWORD)
        for spelling in ("op@example.com", " OP@Example.COM "):
            assert "email_taken" in everything_said(giro("operator", "create", spelling, stdin=PASSWORD))

    def test_makes_an_operator_with_an_address_for_tests_only_if_that_is_allowed(
        self, database: Database, clean_environment: pytest.MonkeyPatch
    ) -> None:
        result = giro("operator", "create", "op@giro.test", stdin=PASSWORD)
        assert (result.exit_code, "GIRO_ALLOW_TEST_EMAILS" in everything_said(result)) == (1, True)
        clean_environment.setenv("GIRO_ALLOW_TEST_EMAILS", "true")
        assert giro("operator", "create", "op@giro.test", stdin=PASSWORD).exit_code == 0


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

    def test_set_the_number_of_pending_transfers_of_a_user_and_forget_it(self, database: Database) -> None:
        bank = bank_of_two(database)
        for arguments, limit in ((["200000"], 200_000), ([], None)):
            result = giro("operator", "pending", bank.ada.email, *arguments)
            assert result.exit_code == 0
            assert ("200000 transfers" if limit else "the number in the settings") in result.stdout
            query = "SELECT pending_limit FROM users WHERE id = ?"
            assert rows(database, query, bank.ada.id) == [{"pending_limit": limit}]
        assert giro("operator", "pending", bank.ada.email, "0").exit_code == 2

    def test_deactivate_and_reactivate_a_user_by_address(self, database: Database) -> None:
        bank = bank_of_two(database)
        assert giro("operator", "deactivate", bank.ada.email.upper()).exit_code == 0
        assert rows(database, "SELECT is_active FROM users WHERE id = ?", bank.ada.id) == [{"is_active": 0}]
        assert giro("operator", "reactivate", bank.ada.email).exit_code == 0
        assert rows(database, "SELECT is_active FROM users WHERE id = ?", bank.ada.id) == [{"is_active": 1}]

    def test_deactivate_and_reactivate_a_user_by_id(self, database: Database) -> None:
        bank = bank_of_two(database)
        for command, is_active in (("deactivate", 0), ("reactivate", 1)):
            assert giro("operator", command, str(bank.ada.public_id)).exit_code == 0
            assert rows(database, "SELECT is_active FROM users WHERE id = ?", bank.ada.id) == [{"is_active": is_active}]

    def test_are_recorded_as_acts_of_the_bank(self, database: Database) -> None:
        bank = bank_of_two(database)
        giro("operator", "limit", str(bank.ada_account), "5000")
        assert rows(database, "SELECT author_id, action, address FROM audit_entries") == [
            {"author_id": 1, "action": "overdraft_limit_set", "address": None}
        ]

    def test_name_the_object_that_does_not_exist(self, database: Database) -> None:
        assert "user_not_found" in everything_said(giro("operator", "deactivate", "nobody@example.com"))


class TestOperatorLists:
    def lines(self, *words: str) -> list[list[str]]:
        """The lines of a list below its heading, each as a list of words."""
        result = giro("operator", *words)
        assert result.exit_code == 0, result.stderr
        return [line.split() for line in result.stdout.splitlines()[1:]]

    def test_users_are_listed_oldest_first(self, database: Database) -> None:
        bank = bank_of_two(database)
        giro("operator", "deactivate", bank.bob.email)
        assert [line[:5] for line in self.lines("users")] == [
            [str(bank.ada.public_id), bank.ada.email, "-", "customer", "active"],
            [str(bank.bob.public_id), bank.bob.email, "-", "customer", "deactivated"],
        ]

    def test_unusual_names_of_people_are_shown_unchanged(self, database: Database) -> None:
        email, name = f"{'x' * 60}@{'y' * 60}.{'z' * 60}.example.com", "[red]Ada[/red]"
        with unit_of_work(database) as connection:
            users.sign_up(connection, email=email, name=name, password_hash="no hash at all")
        assert [line[1:3] for line in self.lines("users")] == [[email, name]]

    def test_accounts_are_listed_with_owner_funds_and_freeze(self, database: Database) -> None:
        bank = bank_of_two(database, ada_has=1050)
        accepted(database, from_ada_to_bob(bank, 50))
        giro("operator", "freeze", str(bank.bob_account), "--scope", "debit")
        number = account_row(database, bank.ada_account)["account_number"]
        ada, bob = (line for line in self.lines("accounts") if line[2] != "-")
        assert ada[:2] == [str(bank.ada_account), number]
        assert ada[2:] == [str(bank.ada.public_id), "USD", "10.50", "0.50", "0.00", "active"]
        assert bob[2:] == [str(bank.bob.public_id), "USD", "0.00", "0.00", "0.00", "frozen", "(debit)"]
        (external,) = (line for line in self.lines("accounts") if line[2] == "-")
        assert external[3:5] == ["USD", "-10.50"]

    def test_the_queue_shows_waiting_work(self, database: Database) -> None:
        bank = bank_of_two(database, ada_has=1000)
        assert self.lines("queue") == [["0", "-", "1", "0"]]
        accepted(database, from_ada_to_bob(bank))
        ((pending, _age, unit, ended, parked),) = self.lines("queue")
        assert (pending, unit, ended, parked) == ("1", "s", "1", "0")

    def test_the_audit_log_is_shown_newest_first(self, database: Database) -> None:
        bank = bank_of_two(database, ada_has=1000)
        giro("operator", "limit", str(bank.ada_account), "70")
        giro("operator", "unfreeze", str(bank.ada_account))
        giro("operator", "deactivate", bank.ada.email)
        (system,) = rows(database, "SELECT public_id FROM users WHERE id = 1")
        author = str(UUID(bytes=system["public_id"]))
        found = self.lines("audit")
        assert [line[0] for line in found] == ["3", "2", "1"]
        assert [line[3:5] for line in found] == [
            ["user_deactivated", author], ["overdraft_limit_set", author], ["deposit_ordered", author]
        ]  # fmt: skip
        assert found[1][5:-1] == [str(bank.ada_account), "before=0", "after=70", "last_transaction=2", "-"]

    def test_the_audit_log_can_be_filtered_by_action(self, database: Database) -> None:
        bank = bank_of_two(database, ada_has=1000)
        giro("operator", "deactivate", bank.ada.email)
        assert [line[3] for line in self.lines("audit", "--action", "user_deactivated")] == ["user_deactivated"]
        assert self.lines("audit", "--action", "logged_in") == []
        assert giro("operator", "audit", "--action", "sung").exit_code == 2

    @pytest.mark.parametrize("what", ["users", "accounts", "audit"])
    def test_a_list_has_the_requested_length_and_reports_if_there_is_more(self, database: Database, what: str) -> None:
        bank = bank_of_two(database, ada_has=1)
        giro("operator", "deactivate", bank.ada.email)
        short, whole = giro("operator", what, "--limit", "1"), giro("operator", what, "--limit", "10000")
        assert len(short.stdout.splitlines()) == 2
        assert ("There are more rows" in short.stderr, "There are more rows" in whole.stderr) == (True, False)
        assert giro("operator", what, "--limit", "0").exit_code == 2

    def test_lists_change_nothing(self, database: Database) -> None:
        bank_of_two(database, ada_has=1)
        before = rows(database, "SELECT * FROM audit_entries")
        for what in ("users", "accounts", "queue", "audit"):
            self.lines(what)
        assert rows(database, "SELECT * FROM audit_entries") == before


@pytest.mark.parametrize("command", ["verify", "status", "operator users", "operator queue", "operator audit"])
def test_without_a_database_one_line_explains_what_to_do(clean_environment: pytest.MonkeyPatch, command: str) -> None:
    result = giro(*command.split())
    assert result.exit_code == 2
    assert "giro migrate" in everything_said(result)


@pytest.mark.parametrize(
    ("number", "said"), [(0, ("0 cards", "0 breaches")), (1, ("1 card", "1 breach")), (2, ("2 cards", "2 breaches"))]
)
def test_counts_are_singular_or_plural(number: int, said: tuple[str, str]) -> None:
    assert (counted(number, "card"), counted(number, "breach", "breaches")) == said


def test_the_version_is_shown() -> None:
    assert giro("--version").stdout.startswith("giro ")
