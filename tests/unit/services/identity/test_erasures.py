"""Erasing a person: no personal data is left, the books do not change, and a backup does not undo the erasure."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner, Result

from core.cli import app, apply_migrations
from core.cli.console import the_bank
from core.domain.accounts import AccountError
from core.domain.audit import Author
from core.domain.errors import Refusal, Unavailable
from core.domain.users import Role, UserError
from core.files import folder_of_documents
from core.ids import new_id
from core.processes.database_hold import alone
from core.security.card_vault import CardVault
from core.security.passwords import Passwords
from core.security.secrets import Secrets
from core.services.backups import making, restoring
from core.services.cards import keys
from core.services.identity import log_ins, operators, users
from core.services.identity.erasures import erase
from core.services.verification import verify
from core.settings import Settings, load_settings
from core.storage.engines import SCHEMA_REVISION
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import checkpoint
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    Bank,
    accepted,
    account_row,
    add_document,
    add_user,
    deactivate,
    freeze,
    from_ada_to_bob,
    from_bob_to_ada,
    issue_card,
    rows,
    settle_all,
    user_row,
)
from tests.tampering import forget_erasure, unguarded

ADDRESS = "Ada.Canary-4711@example.com"
NAME = "Ada Canary 0815"
HASH = "a canary of a hash 2342"
NAMED = [ADDRESS.lower().encode(), NAME.encode(), HASH.encode()]


def giro(*words: str) -> Result:
    """Run a command in this process, on the database in the working directory."""
    return CliRunner().invoke(app, list(words))


def quiet(_step: str, _done: int, _of: int) -> None:
    pass


@pytest.fixture
def bank(database: Database, bank: Bank) -> Bank:
    """Ada had 1000 and paid all of it to Bob; neither has pending transfers."""
    with unit_of_work(database) as connection:
        connection.exec_driver_sql(
            "UPDATE users SET email = ?, name = ?, password_hash = ? WHERE id = ?",
            (ADDRESS.lower(), NAME, HASH, bank.ada.id),
        )
    accepted(database, from_ada_to_bob(bank, 1000, description="for Ada's rent"))
    settle_all(database)
    return bank


@pytest.fixture
def listed(settings: Settings) -> Path:
    return settings.erasures_path


@pytest.fixture
def author(database: Database) -> Author:
    with unit_of_work(database) as connection:
        return Author(user_id=add_user(connection, role=Role.OPERATOR).id, request_id="an-act", address="192.0.2.7")


def do_erase(database: Database, author: Author, listed: Path, who: UUID) -> None:
    with unit_of_work(database) as connection:
        erase(connection, author, listed, who, documents=listed.with_name("documents"))


def refusal(database: Database, author: Author, listed: Path, who: UUID) -> Refusal:
    """Try an erasure that must be rejected: nothing changes, and nobody is listed."""
    before = everything(database)
    with pytest.raises(Refusal) as refused:
        do_erase(database, author, listed, who)
    assert everything(database) == before
    assert not listed.exists()
    return refused.value


def everything(database: Database) -> list[list[dict[str, Any]]]:
    tables = ("users", "accounts", "reservations", "cards", "refresh_tokens", "audit_entries")
    return [rows(database, f"SELECT * FROM {table}") for table in tables]


# --- erased and kept data ---


def test_no_personal_data_of_the_user_is_left(database: Database, bank: Bank, author: Author, listed: Path) -> None:
    deactivate(database, bank.ada)
    version = user_row(database, bank.ada)["token_version"]
    do_erase(database, author, listed, bank.ada.public_id)
    left = user_row(database, bank.ada)
    assert left["erased_at"] > 0
    assert (left["email"], left["name"], left["password_hash"]) == (
        f"{bank.ada.public_id.hex}@erased.invalid",
        None,
        "!",
    )
    assert (left["is_active"], left["token_version"]) == (0, version + 1)
    assert not Passwords(4).verify("!", left["password_hash"]), "no password matches"


def test_large_documents_are_deleted_with_their_files(
    database: Database, settings: Settings, bank: Bank, author: Author, listed: Path
) -> None:
    folder, ids = settings.documents_path, {}
    for person, account in ((bank.ada, bank.ada_account), (bank.bob, bank.bob_account)):
        waits, made = new_id(), new_id()
        ids[person.id] = made
        with unit_of_work(database) as connection:
            for document in (waits, made):
                add_document(connection, person, account, document, month=f'{{"holder": "{NAME}"}}')
            connection.exec_driver_sql("UPDATE documents SET made_at = 1 WHERE public_id = ?", (made.bytes,))
        folder_of_documents.write(folder, made, NAME.encode())
    deactivate(database, bank.ada)
    do_erase(database, author, listed, bank.ada.public_id)
    assert {row["owner_id"] for row in rows(database, "SELECT owner_id FROM documents")} == {bank.bob.id}
    assert folder_of_documents.present(folder) == {ids[bank.bob.id]}


def test_an_erasure_is_unavailable_while_a_document_cannot_be_deleted(
    database: Database, settings: Settings, bank: Bank, author: Author, listed: Path
) -> None:
    document = new_id()
    with unit_of_work(database) as connection:
        add_document(connection, bank.ada, bank.ada_account, document)
    (settings.documents_path / str(document)).mkdir(parents=True)  # a folder in place of the file
    deactivate(database, bank.ada)
    before = everything(database)
    with pytest.raises(Unavailable):
        do_erase(database, author, listed, bank.ada.public_id)
    assert everything(database) == before
    assert not listed.exists()


def test_tokens_are_deleted(database: Database, bank: Bank, author: Author, listed: Path) -> None:
    nobody = Author(user_id=None, request_id="a-request", address=None)
    with unit_of_work(database) as connection:
        for person in (bank.ada, bank.bob):
            log_ins.log_in(connection, nobody, user_id=person.id, token_version=0, days=30)
    deactivate(database, bank.ada)
    do_erase(database, author, listed, bank.ada.public_id)
    assert rows(database, "SELECT user_id FROM refresh_tokens") == [{"user_id": bank.bob.id}]


def test_card_numbers_are_destroyed_and_the_keys_of_other_cards_can_still_be_rotated(
    database: Database, settings: Settings, bank: Bank, author: Author, listed: Path
) -> None:
    vault = CardVault(Secrets(settings))
    for _ in range(2):
        issue_card(database, vault, bank.ada, bank.ada_account)
    kept = issue_card(database, vault, bank.bob, bank.bob_account)
    deactivate(database, bank.ada)
    do_erase(database, author, listed, bank.ada.public_id)
    numbers = rows(database, "SELECT status, sealed_number, key_version, number_index FROM cards ORDER BY id")
    shredded = {"status": "cancelled", "sealed_number": None, "key_version": None, "number_index": None}
    assert numbers[:2] == [shredded, shredded]
    keys.check_keys(database, vault)
    assert keys.rotate(database, vault, author, lambda *_: None).count == 1
    (sealed,) = rows(database, "SELECT public_id, sealed_number, key_version FROM cards WHERE key_version IS NOT NULL")
    opened = vault.keys().open(sealed["sealed_number"], sealed["key_version"], UUID(bytes=sealed["public_id"]))
    assert opened == kept.number


def test_accounts_with_a_zero_balance_are_closed(database: Database, bank: Bank, author: Author, listed: Path) -> None:
    deactivate(database, bank.ada)
    do_erase(database, author, listed, bank.ada.public_id)
    assert account_row(database, bank.ada_account)["status"] == "closed"
    (act,) = rows(
        database, "SELECT author_id, object_id, details, address FROM audit_entries WHERE action = 'user_erased'"
    )
    assert act == {
        "author_id": author.user_id,
        "object_id": bank.ada.public_id.bytes,
        "details": '{"accounts_closed": 1, "cards": 0}',
        "address": author.address,
    }


def test_the_books_do_not_change(database: Database, bank: Bank, author: Author, listed: Path) -> None:
    ledger = ("transfers", "transactions", "blocks", "statements")
    before = [rows(database, f"SELECT * FROM {table}") for table in ledger]
    deactivate(database, bank.ada)
    do_erase(database, author, listed, bank.ada.public_id)
    assert [rows(database, f"SELECT * FROM {table}") for table in ledger] == before
    assert "for Ada's rent" in [row["description"] for row in before[0]], "the chain of blocks covers it"
    assert verify(database).breaches == []


def test_the_address_can_be_used_again(database: Database, bank: Bank, author: Author, listed: Path) -> None:
    deactivate(database, bank.ada)
    do_erase(database, author, listed, bank.ada.public_id)
    with unit_of_work(database) as connection:
        again = users.sign_up(connection, email=ADDRESS, name=None, password_hash="no hash at all")
    assert again != bank.ada.public_id


def test_no_byte_of_the_personal_data_is_left_in_the_files_after_a_checkpoint(
    database: Database, bank: Bank, author: Author, listed: Path
) -> None:
    others = [(uuid4().bytes, f"{number * 7919 % 1500:04}.{'x' * 60}@example.com") for number in range(1500)]
    with unit_of_work(database) as connection:  # pages are split with her row and her address in the middle
        connection.exec_driver_sql(
            "INSERT INTO users (public_id, email, password_hash, role, is_active, token_version, created_at) "
            "VALUES (?, ?, '!', 'customer', 1, 0, 0)",
            others,
        )
    checkpoint(database)
    database.close()
    assert [word in database.path.read_bytes() for word in NAMED] == [True, True, True]
    deactivate(database, bank.ada)
    do_erase(database, author, listed, bank.ada.public_id)
    checkpoint(database)
    database.close()
    files = list(database.path.parent.glob(f"{database.path.name}*"))
    assert database.path in files
    assert [(path.name, word) for path in files for word in NAMED if word in path.read_bytes()] == []


# --- the migration -----------------------------------------------------------------------------------------------


def test_an_upgrade_keeps_every_card_and_every_user(
    database: Database, settings: Settings, bank: Bank, author: Author
) -> None:
    for _ in range(3):
        issue_card(database, CardVault(Secrets(settings)), bank.ada, bank.ada_account)
    queries = ("SELECT * FROM cards ORDER BY id", "SELECT * FROM users ORDER BY id")
    before = [rows(database, query) for query in queries]
    database.close()
    forget_erasure(database.path)
    with unguarded(database.path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '0008'")
    apply_migrations(settings)
    assert database.schema_revision() == SCHEMA_REVISION
    assert [rows(database, query) for query in queries] == before
    assert len(before[0]) == 3
    keys.check_keys(database, CardVault(Secrets(settings)))


# --- refusals ----------------------------------------------------------------------------------------------------


def test_a_user_with_access_is_not_erased(database: Database, bank: Bank, author: Author, listed: Path) -> None:
    assert refusal(database, author, listed, bank.ada.public_id).code is UserError.ACTIVE


def test_an_unknown_user_and_the_bank_itself_are_not_erased(database: Database, author: Author, listed: Path) -> None:
    (system,) = rows(database, "SELECT public_id FROM users WHERE id = 1")
    for who in (uuid4(), UUID(bytes=system["public_id"])):
        assert refusal(database, author, listed, who).code is UserError.NOT_FOUND


@pytest.mark.parametrize("scope", ["debit", "all"])
def test_a_user_with_a_frozen_account_is_not_erased(
    database: Database, bank: Bank, author: Author, listed: Path, scope: str
) -> None:
    freeze(database, bank.ada_account, scope)
    deactivate(database, bank.ada)
    assert refusal(database, author, listed, bank.ada.public_id).code is AccountError.FROZEN


def test_a_user_with_money_is_not_erased(database: Database, bank: Bank, author: Author, listed: Path) -> None:
    deactivate(database, bank.bob)
    refused = refusal(database, author, listed, bank.bob.public_id)
    assert (refused.code, str(bank.bob_account) in refused.detail) == (AccountError.NOT_EMPTY, True)


def test_a_user_with_a_pending_transfer_is_not_erased(
    database: Database, bank: Bank, author: Author, listed: Path
) -> None:
    accepted(database, from_bob_to_ada(bank, 1000))
    for person in (bank.ada, bank.bob):
        deactivate(database, person)
        assert refusal(database, author, listed, person.public_id).code is AccountError.HAS_PENDING


def test_erasing_again_changes_nothing(database: Database, bank: Bank, author: Author, listed: Path) -> None:
    deactivate(database, bank.ada)
    do_erase(database, author, listed, bank.ada.public_id)
    before, list_before = everything(database), listed.read_text()
    do_erase(database, author, listed, bank.ada.public_id)
    assert (everything(database), listed.read_text()) == (before, list_before)


def test_an_erased_user_cannot_be_reactivated(database: Database, bank: Bank, author: Author, listed: Path) -> None:
    deactivate(database, bank.ada)
    do_erase(database, author, listed, bank.ada.public_id)
    with pytest.raises(Refusal) as refused, unit_of_work(database) as connection:
        operators.reactivate(connection, author, bank.ada.public_id)
    assert refused.value.code is UserError.ERASED


def test_a_user_who_cannot_be_listed_is_not_erased(
    database: Database, bank: Bank, author: Author, tmp_path: Path
) -> None:
    deactivate(database, bank.ada)
    before = everything(database)
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="list of erased users"):
        do_erase(database, author, tmp_path / "file" / "erasures", bank.ada.public_id)
    assert everything(database) == before


@pytest.mark.parametrize("words", [["ada@example.com"], ["--again", "list"]])
def test_the_command_erases_nobody_while_a_service_runs_and_names_the_service(
    database: Database, settings: Settings, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "list").touch()
    with alone(settings, "`giro restore`"):
        result = giro("operator", "erase", *words)
    assert (result.exit_code, "`giro restore`, since" in result.stderr, result.stderr.count("\n")) == (3, True, 1)


# --- backups -----------------------------------------------------------------------------------------------------


@pytest.fixture
def restored(
    settings: Settings, database: Database, bank: Bank, author: Author, tmp_path: Path
) -> tuple[Settings, list[str]]:
    """A backup from before the erasure, restored to a new folder with the list of the old one; returns the warnings."""
    file, _ = making.make(settings, database, tmp_path / "backups", quiet)
    deactivate(database, bank.ada)
    do_erase(database, author, settings.erasures_path, bank.ada.public_id)
    folder = tmp_path / "new"
    folder.mkdir()
    settings.erasures_path.rename(folder / "erasures")
    new = load_settings(_env_file=None, data_dir=folder)
    return new, restoring.restore(new, file, the_bank(), quiet, migrate=apply_migrations, unsigned=True).warnings


def test_restoring_an_older_backup_names_the_erased_users_that_it_brings_back(
    restored: tuple[Settings, list[str]],
) -> None:
    new, warnings = restored
    assert f"1 erased users are back: `giro operator erase --again {new.erasures_path}` erases them again" in warnings


def test_a_list_erases_users_that_a_backup_brought_back(
    clean_environment: pytest.MonkeyPatch, restored: tuple[Settings, list[str]], bank: Bank
) -> None:
    new, _ = restored
    clean_environment.setenv("GIRO_DATA_DIR", str(new.data_dir))
    database = Database(new)
    assert user_row(database, bank.ada)["name"] == NAME
    for said in (f"{bank.ada.public_id} is erased again\n", f"nobody in {new.erasures_path} is back\n"):
        result = giro("operator", "erase", "--again", str(new.erasures_path))
        assert (result.exit_code, result.stdout) == (0, said)
    assert user_row(database, bank.ada)["name"] is None


def test_a_list_names_users_that_cannot_be_erased(database: Database, bank: Bank, tmp_path: Path) -> None:
    (tmp_path / "erasures").write_text(f"{uuid4()}\n{bank.bob.public_id}\n{bank.ada.public_id}\n")
    result = giro("operator", "erase", "--again", str(tmp_path / "erasures"))
    assert (result.exit_code, result.stdout) == (1, f"{bank.ada.public_id} is erased again\n")
    assert f"{bank.bob.public_id} is not erased" in result.stderr
    assert "account_not_empty" in result.stderr
    assert user_row(database, bank.bob)["is_active"] == 1, "none of the list is erased"


def test_an_invalid_list_is_reported(database: Database, bank: Bank, tmp_path: Path) -> None:
    (tmp_path / "erasures").write_text("ada@example.com\n")
    result = giro("operator", "erase", "--again", str(tmp_path / "erasures"))
    assert (result.exit_code, "is not a list of erased users" in result.stderr) == (2, True)


def test_a_missing_list_is_not_an_empty_one(database: Database, tmp_path: Path) -> None:
    for wrong in (tmp_path / "erasure", tmp_path):
        result = giro("operator", "erase", "--again", str(wrong))
        assert (result.exit_code, result.stdout) == (2, "")


# --- the command -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["address", "id"])
def test_the_command_erases_by_address_and_by_id(database: Database, bank: Bank, listed: Path, by: str) -> None:
    deactivate(database, bank.ada)
    result = giro("operator", "erase", ADDRESS if by == "address" else str(bank.ada.public_id))
    assert (result.exit_code, result.stdout) == (0, f"{bank.ada.public_id} is erased\n")
    assert listed.read_text() == f"{bank.ada.public_id}\n"
    assert listed.stat().st_mode & 0o777 == 0o600


def test_the_command_needs_either_a_user_or_a_list(database: Database) -> None:
    for words in ((), (ADDRESS, "--again", "erasures")):
        assert giro("operator", "erase", *words).exit_code == 2
