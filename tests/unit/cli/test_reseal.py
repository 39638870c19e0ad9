"""`giro reseal` as two operators run it, each with a password."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.domain.users import Role
from core.security.passwords import Passwords
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import add_user, bank_of_two, rows
from tests.tampering import tamper
from tests.unit.cli.test_cli import everything_said, giro

PASSWORD = "correct horse battery"
BREAK = "UPDATE transfers SET description = 'forged' WHERE id = 1"


@pytest.fixture
def broken(database: Database) -> Database:
    """A broken ledger with two operators, a customer and an operator without access, who share a password."""
    bank_of_two(database, ada_has=500)
    hashed = Passwords(4).hash(PASSWORD)
    with unit_of_work(database) as connection:
        for name in ("one", "two", "gone"):
            add_user(connection, f"{name}@example.com", Role.OPERATOR, hashed)
        add_user(connection, "customer@example.com", password_hash=hashed)
        connection.exec_driver_sql("UPDATE users SET is_active = 0 WHERE email = 'gone@example.com'")
    tamper(database, BREAK)
    return database


def test_two_operators_continue_with_a_scar(broken: Database) -> None:
    proposed = giro("reseal", "--reason", "case 12", "--as", "One@example.com", "--json", stdin=PASSWORD)
    assert proposed.exit_code == 0, everything_said(proposed)
    proposal = str(json.loads(proposed.stdout)["proposal"])
    again = giro("reseal", "--confirm", proposal, "--as", "one@example.com", stdin=PASSWORD)
    assert (again.exit_code, "a second one must" in everything_said(again)) == (1, True)
    done = giro("reseal", "--confirm", proposal, "--as", "two@example.com", stdin=PASSWORD)
    assert (done.exit_code, "settlement continues" in done.stdout) == (0, True), everything_said(done)
    found = giro("verify")
    assert (found.exit_code, "case 12 (proposed by one@example.com" in everything_said(found).replace("\n", " ")) == (
        0,
        True,
    )
    assert json.loads(giro("verify", "--json").stdout)["scars"][0]["confirmed_by"] == "two@example.com"


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("one@example.com", "wrong horse battery"),
        ("customer@example.com", PASSWORD),
        ("gone@example.com", PASSWORD),
        ("nobody@example.com", PASSWORD),
    ],
)
def test_nobody_but_an_active_operator_with_the_password_proposes(broken: Database, email: str, password: str) -> None:
    result = giro("reseal", "--reason", "case 12", "--as", email, stdin=password)
    assert (result.exit_code, "no active operator" in everything_said(result)) == (1, True)
    assert not rows(broken, "SELECT 1 FROM scars")
    assert rows(broken, "SELECT author_id FROM audit_entries WHERE action = 'log_in_failed'") == [{"author_id": None}]


@pytest.mark.parametrize(
    "words", [(), ("--reason", " "), ("--reason", "a", "--confirm", "1"), ("--reason", "a\nb"), ("--reason", "a" * 501)]
)
def test_other_words_are_refused(broken: Database, words: tuple[str, ...]) -> None:
    assert giro("reseal", *words, "--as", "one@example.com", stdin=PASSWORD).exit_code == 2
    assert not rows(broken, "SELECT 1 FROM scars")


def test_a_month_is_written_once_for_others_and_recorded(database: Database, tmp_path: Path) -> None:
    bank_of_two(database, ada_has=500)
    month, file = f"{datetime.now(UTC):%Y-%m}", tmp_path / "month.zip"
    made = giro("audit-bundle", "--month", month, "--to", str(file))
    assert (made.exit_code, "1 transfer, 2 transactions" in everything_said(made)) == (0, True), everything_said(made)
    assert giro("audit-bundle", "--month", month, "--to", str(file)).exit_code == 2
    assert giro("audit-bundle", "--month", "2026-13", "--to", str(tmp_path / "no.zip")).exit_code == 2
    assert giro("audit-bundle", "--month", "2019-01", "--to", str(tmp_path / "no.zip")).exit_code in (1, 2)
    (entry,) = rows(database, "SELECT details ->> 'file' AS file FROM audit_entries WHERE action = 'audit_bundle_made'")
    assert entry["file"] == "month.zip"
    assert file.stat().st_mode & 0o777 == 0o600
