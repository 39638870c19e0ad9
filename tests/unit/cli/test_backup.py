"""`giro backup` and `giro restore`: their output and their exit status."""

import json
import os
from pathlib import Path

import pytest

from core.processes import heartbeats
from core.processes.database_hold import hold_database
from core.security.anchor_key import AnchorKey
from core.security.secrets import Secrets
from core.services.backups import making, manifests
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, rows
from tests.unit.cli.test_cli import anchored, everything_said, giro

pytestmark = pytest.mark.usefixtures("as_it_was")


@pytest.fixture
def made(bank: Bank, settings: Settings) -> Path:
    """A backup of a ledger that has since been lost."""
    Secrets(settings).anchor_key.read_or_make()
    assert giro("backup").exit_code == 0
    ((path, _),) = manifests.kept(settings.backups_path)
    settings.database_path.unlink()
    for log in settings.data_dir.glob("banking.db-*"):
        log.unlink()
    return path


def actions(settings: Settings) -> list[str]:
    return [row["action"] for row in rows(Database(settings), "SELECT action FROM audit_entries ORDER BY id")]


class TestBackup:
    def test_prints_the_path_the_content_and_the_keys_to_store_separately(self, bank: Bank, settings: Settings) -> None:
        result = giro("backup")
        ((path, _),) = manifests.kept(settings.backups_path)
        assert result.exit_code == 0, result.stderr
        said = everything_said(result)
        assert f"{path}: 3 accounts, 1 transfer, 2 transactions" in said
        assert "keep apart from it:" in said

    def test_writes_to_another_folder_and_prints_the_manifest(self, bank: Bank, tmp_path: Path) -> None:
        result = giro("backup", "--to", str(tmp_path / "usb"), "--json")
        ((path, manifest),) = manifests.kept(tmp_path / "usb")
        assert json.loads(result.stdout) == json.loads(manifests.manifest_of(path).read_text())
        assert manifest.counts["transfers"] == 1

    def test_is_recorded_after_it_was_made(self, bank: Bank, settings: Settings) -> None:
        giro("backup")
        ((path, _),) = manifests.kept(settings.backups_path)
        assert actions(settings)[-1] == "backup_taken"
        assert actions(making.settings_of(settings, path))[-1:] != ["backup_taken"]

    def test_exits_with_1_if_the_copy_breaks_a_rule(self, bank: Bank, database: Database) -> None:
        with unit_of_work(database) as connection:
            connection.exec_driver_sql("UPDATE accounts SET released_low = 1 WHERE kind = 'customer'")
        result = giro("backup")
        assert (result.exit_code, "reserved_is_pending" in result.stderr) == (1, True)

    def test_needs_the_key_of_existing_anchors_and_makes_no_other(self, database: Database, settings: Settings) -> None:
        anchored(database, settings)
        result = giro("backup")
        assert (result.exit_code, everything_said(result)) == (
            2,
            "giro: there are anchors but no anchor key: set GIRO_ANCHOR_KEY",
        )
        assert not Secrets(settings).anchor_key.path.exists()
        assert manifests.kept(settings.backups_path) == []

    def test_reports_a_file_that_is_not_a_folder(self, bank: Bank, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        result = giro("backup", "--to", str(tmp_path / "file"))
        assert (result.exit_code, result.stderr) == (2, f"giro: {tmp_path / 'file'} is not a folder\n")

    def test_exits_with_2_and_one_line_if_it_cannot_be_made(self, bank: Bank, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        result = giro("backup", "--to", str(tmp_path / "file" / "backups"))
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


class TestRestore:
    def test_restores_the_ledger_and_lists_what_it_does_not_contain(self, made: Path, settings: Settings) -> None:
        result = giro("restore", str(made))
        assert result.exit_code == 0, result.stderr
        assert "changes after" in result.stdout
        assert giro("verify").exit_code == 0
        assert actions(settings)[-1] == "backup_restored"

    def test_prints_the_manifest(self, made: Path) -> None:
        assert json.loads(giro("restore", "--json", str(made)).stdout)["file"] == made.name

    def test_is_rejected_over_existing_data(self, made: Path, settings: Settings) -> None:
        settings.database_path.write_text("a ledger")
        result = giro("restore", str(made))
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert settings.database_path.read_text() == "a ledger"

    def test_exits_with_1_if_the_ledger_breaks_a_rule(self, made: Path, settings: Settings) -> None:
        broken = Database(making.settings_of(settings, made))
        with unit_of_work(broken) as connection:
            connection.exec_driver_sql("UPDATE accounts SET released_low = 1 WHERE kind = 'customer'")
        broken.close()
        changed = manifests.read_manifest(made).model_copy(update={"sha256": manifests.digest(made)})
        manifests.manifest_of(made).write_text(changed.model_dump_json())
        manifests.signature_of(made).unlink()
        result = giro("restore", "--unsigned", str(made))
        assert (result.exit_code, "reserved_is_pending" in result.stderr) == (1, True)
        assert not settings.database_path.exists()

    def test_ends_with_3_where_a_giro_runs_on_the_folder(self, made: Path, settings: Settings) -> None:
        with hold_database(settings):
            result = giro("restore", str(made))
        assert (result.exit_code, "is held by another Giro" in result.stderr) == (3, True)

    @pytest.mark.parametrize("part", ["api", "settlement", "jobs", "scheduler", "standby"])
    def test_exits_with_3_while_a_single_part_runs(self, made: Path, settings: Settings, part: str) -> None:
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        heartbeats.path_of(settings.run_dir, part).touch()
        result = giro("restore", str(made))
        by = f"held by another Giro: {part}, process {os.getpid()} on {heartbeats.HOST}, alive 0 s ago; stop it first"
        assert (result.exit_code, by in result.stderr) == (3, True)
        assert not settings.database_path.exists()

    def test_lists_the_sessions_that_it_ended(self, made: Path, settings: Settings) -> None:
        said = giro("restore", str(made)).stdout
        assert "sessions ended: those of 3 users, with 0 refresh tokens, and all device tokens" in said

    def test_prints_the_sessions_that_it_ended_as_json(self, made: Path) -> None:
        ended = json.loads(giro("restore", "--json", str(made)).stdout)["ended"]
        assert ended == {"users": 3, "refresh_tokens": 0, "excluded": 0, "token_keys_rotated": False}

    def test_needs_a_signature_or_the_word_that_it_needs_none(self, made: Path) -> None:
        manifests.signature_of(made).unlink()
        result = giro("restore", str(made))
        assert (result.exit_code, "is not signed" in result.stderr, "--unsigned" in result.stderr) == (2, True, True)
        assert giro("restore", "--unsigned", str(made)).exit_code == 0

    def test_takes_a_public_key_in_place_of_the_secret(self, made: Path, settings: Settings) -> None:
        public = AnchorKey(Secrets(settings).anchor_key.read()).public.hex()
        Secrets(settings).anchor_key.path.unlink()
        assert giro("restore", "--public-key", "ab" * 32, str(made)).exit_code == 2
        assert giro("restore", "--public-key", public, str(made)).exit_code == 0

    def test_opens_a_sealed_backup(self, bank: Bank, settings: Settings) -> None:
        Secrets(settings).anchor_key.read_or_make()
        Secrets(settings).backup_key.replace("a key of backups that is long enough to be one")
        said = everything_said(giro("backup"))
        assert "verified, sealed, signed" in said
        assert "backup_key" in said
        settings.database_path.unlink()
        for log in settings.data_dir.glob("banking.db-*"):
            log.unlink()
        ((path, _),) = manifests.kept(settings.backups_path)
        assert giro("restore", str(path)).exit_code == 0
        assert giro("verify").exit_code == 0
