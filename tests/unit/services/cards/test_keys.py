"""Rotating card keys: no card is lost, whatever happens during a rotation."""

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import pytest

from core.security.card_vault import CardKeyError, CardVault
from core.security.secrets import Secrets
from core.services.cards import keys
from core.services.cards.keys import Rotation, rotate
from core.settings import Settings, load_settings
from core.settings.key_lists import parse_keys
from core.storage.sqlite.engine import Database
from tests.builders import Bank, author, rows
from tests.unit.cli.test_cli import everything_said, giro
from tests.unit.services.cards.card_builders import SECRETS, issue, keys_of, vault_with, versions


@pytest.fixture
def with_keys(settings: Settings) -> Callable[..., CardVault]:
    """Make vaults whose keys of some versions come from a setting."""
    return lambda *versions: vault_with(settings, keys_of(*versions))


@pytest.fixture
def kept(settings: Settings) -> Path:
    """The key file."""
    return Secrets(settings).card_keys.path


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of two, so that a few cards make several groups."""
    monkeypatch.setattr(keys, "GROUP", 2)


def nothing(count: int, of: int) -> None:
    """Ignore the progress."""


def run(database: Database, vault: CardVault, on_progress: Callable[[int, int], None] = nothing) -> Rotation:
    return rotate(database, vault, author(1), on_progress)


def open_row(vault: CardVault, row: dict[str, Any]) -> str:
    return vault.keys().open(row["sealed_number"], row["key_version"], UUID(bytes=row["public_id"]))


def opened(database: Database, vault: CardVault) -> list[str]:
    """Every card's number, in the order of issue."""
    found = rows(database, "SELECT public_id, sealed_number, key_version FROM cards ORDER BY id")
    return [open_row(vault, row) for row in found]


def rotations(database: Database) -> list[str]:
    found = rows(database, "SELECT details FROM audit_entries WHERE action = 'card_keys_rotated' ORDER BY id")
    return [row["details"] for row in found]


# --- rotating stored keys ---


def test_a_rotation_seals_every_card_under_a_new_key_and_drops_the_old_one(
    database: Database, bank: Bank, settings: Settings, kept: Path, few: None
) -> None:
    vault = CardVault(Secrets(settings))
    numbers = [card.number for card in issue(database, vault, bank, 5)]
    before = rows(database, "SELECT id, public_id, status, last4, expiry, number_index, created_at FROM cards")
    old = parse_keys(kept.read_text())[1]
    seen: list[tuple[int, int]] = []
    assert run(database, vault, lambda count, of: seen.append((count, of))) == Rotation(2, 5, True, False)
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert versions(database) == [2] * 5
    assert parse_keys(kept.read_text()).keys() == {2}
    assert old not in kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert opened(database, CardVault(Secrets(settings))) == numbers
    assert rows(database, "SELECT id, public_id, status, last4, expiry, number_index, created_at FROM cards") == before
    assert rotations(database) == ['{"version": 2, "count": 5}']
    assert sorted(path.name for path in kept.parent.iterdir()) == ["card_index_key", "card_keys"]


def test_a_rotation_is_recorded_as_an_act_of_the_bank(database: Database, settings: Settings) -> None:
    run(database, CardVault(Secrets(settings)))
    (entry,) = rows(database, "SELECT author_id, action, address FROM audit_entries")
    assert entry == {"author_id": 1, "action": "card_keys_rotated", "address": None}


def test_a_rotation_seals_cancelled_cards_too(database: Database, bank: Bank, settings: Settings) -> None:
    vault = CardVault(Secrets(settings))
    issue(database, vault, bank)
    with database.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE cards SET status = 'cancelled', cancelled_at = 1")
    assert run(database, vault).count == 1
    assert versions(database) == [2]


def test_each_rotation_makes_a_new_key(database: Database, bank: Bank, settings: Settings, kept: Path) -> None:
    vault = CardVault(Secrets(settings))
    for version in (2, 3, 4):
        issue(database, vault, bank)
        assert run(database, vault).version == version
    assert versions(database) == [4] * 3
    assert parse_keys(kept.read_text()).keys() == {4}


def test_another_process_seals_with_the_new_key_at_once(
    database: Database, bank: Bank, settings: Settings, few: None
) -> None:
    """The vault was opened before the rotation, like that of the API, and is used in the middle of the rotation."""
    apis = CardVault(Secrets(settings))
    numbers = [card.number for card in issue(database, apis, bank, 5)]

    def meanwhile(count: int, of: int) -> None:
        numbers.extend(card.number for card in issue(database, apis, bank))

    assert run(database, CardVault(Secrets(settings)), meanwhile).count == 5
    assert versions(database) == [2] * 8
    assert opened(database, apis) == numbers


def test_no_card_that_is_issued_during_a_rotation_is_lost(
    database: Database, bank: Bank, settings: Settings, kept: Path, few: None
) -> None:
    """Two threads, each with its own database and vault, like two processes; rotations overlap with issuing."""
    numbers, stop = [card.number for card in issue(database, CardVault(Secrets(settings)), bank, 4)], Event()
    issued_some = Event()

    def issue_until_stopped() -> list[str]:
        own, vault, made = Database(settings), CardVault(Secrets(settings)), []
        try:
            while not stop.is_set():
                made += [card.number for card in issue(own, vault, bank)]
                issued_some.set()
        finally:
            issued_some.set()
            own.close()
        return made

    with ThreadPoolExecutor(1) as pool:
        issuing = pool.submit(issue_until_stopped)
        try:
            for _ in range(3):
                issued_some.wait(10)
                issued_some.clear()
                run(database, CardVault(Secrets(settings)))
        finally:
            stop.set()
        numbers += issuing.result(10)
    (newest,) = parse_keys(kept.read_text())
    assert newest == 4
    assert set(versions(database)) == {4}
    assert opened(database, CardVault(Secrets(settings))) == numbers


class TestAnInterruptedRotation:
    class Stopped(Exception):
        """The machine stops here."""

    @pytest.fixture
    def vault(self, settings: Settings) -> CardVault:
        return CardVault(Secrets(settings))

    @pytest.fixture
    def numbers(self, database: Database, bank: Bank, vault: CardVault, few: None) -> list[str]:
        return [card.number for card in issue(database, vault, bank, 5)]

    def stop(self, *_: object) -> None:
        raise self.Stopped

    def is_finished_by(self, rotation: Rotation, database: Database, kept: Path) -> None:
        assert (rotation.version, rotation.added, rotation.finished) == (2, False, True)
        assert versions(database) == [2] * 5
        assert parse_keys(kept.read_text()).keys() == {2}

    def test_after_some_cards_is_completed_by_the_next(
        self, database: Database, vault: CardVault, numbers: list[str], kept: Path
    ) -> None:
        with pytest.raises(self.Stopped):
            run(database, vault, self.stop)
        assert versions(database) == [2, 2, 1, 1, 1]
        assert opened(database, vault) == numbers
        assert rotations(database) == []
        self.is_finished_by(run(database, vault), database, kept)
        assert opened(database, vault) == numbers
        assert rotations(database) == ['{"version": 2, "count": 3}']

    def test_before_the_first_card_is_completed_by_the_next(
        self, database: Database, vault: CardVault, numbers: list[str], kept: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch, pytest.raises(self.Stopped):
            patch.setattr(keys, "_seal_group", self.stop)
            run(database, vault)
        assert parse_keys(kept.read_text()).keys() == {1, 2}
        self.is_finished_by(run(database, vault), database, kept)
        assert opened(database, vault) == numbers

    def test_before_the_old_key_is_dropped_is_completed_by_the_next(
        self, database: Database, vault: CardVault, numbers: list[str], kept: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch, pytest.raises(self.Stopped):
            patch.setattr(vault, "drop_older_keys", self.stop)
            run(database, vault)
        assert parse_keys(kept.read_text()).keys() == {1, 2}
        self.is_finished_by(run(database, vault), database, kept)
        assert opened(database, vault) == numbers
        assert rotations(database) == ['{"version": 2, "count": 5}', '{"version": 2, "count": 0}']

    def test_is_followed_by_a_new_key_only_on_the_next_request(
        self, database: Database, vault: CardVault, numbers: list[str]
    ) -> None:
        with pytest.raises(self.Stopped):
            run(database, vault, self.stop)
        assert [run(database, vault).version for _ in range(2)] == [2, 3]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(keys_of(3), "key version 1, which is not among the card keys"), (keys_of(1), "sealed with another secret")],
    ids=["version", "secret"],
)
def test_wrong_keys_stop_a_rotation_before_anything_changes(
    database: Database, bank: Bank, settings: Settings, kept: Path, wrong: str, words: str
) -> None:
    vault = CardVault(Secrets(settings))
    issue(database, vault, bank)
    kept.write_text(wrong)
    with pytest.raises(CardKeyError, match=words):
        run(database, vault)
    assert kept.read_text() == wrong
    assert versions(database) == [1]


def test_a_card_that_cannot_be_opened_stops_a_rotation_and_nothing_is_lost(
    database: Database, bank: Bank, settings: Settings, kept: Path, few: None
) -> None:
    vault = CardVault(Secrets(settings))
    numbers = [card.number for card in issue(database, vault, bank, 3)]
    with database.writer.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO cards SELECT 4, zeroblob(16), owner_id, account_id, type, status, last4, expiry, "
            "sealed_number, key_version, zeroblob(32), created_at, NULL FROM cards WHERE id = 1"
        )
    with pytest.raises(CardKeyError, match="sealed with another secret"):
        run(database, vault)
    assert versions(database) == [2, 2, 1, 1]
    assert parse_keys(kept.read_text()).keys() == {1, 2}
    found = rows(database, "SELECT public_id, sealed_number, key_version FROM cards WHERE id < 4 ORDER BY id")
    assert [open_row(vault, row) for row in found] == numbers


def test_a_key_that_a_card_still_needs_is_not_dropped(
    database: Database, bank: Bank, settings: Settings, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API has the old key from a setting, and the command has the keys from the file."""
    vault = CardVault(Secrets(settings))
    stale = CardVault(Secrets(load_settings(_env_file=None, data_dir=settings.data_dir, card_keys=kept.read_text())))
    finish = keys._finish

    def too_late(*values: Any) -> None:
        issue(database, stale, bank)
        finish(*values)

    monkeypatch.setattr(keys, "_finish", too_late)
    run(database, vault)
    assert versions(database) == [1]
    assert parse_keys(kept.read_text()).keys() == {1, 2}
    monkeypatch.undo()
    assert run(database, vault) == Rotation(2, 1, False, True)


# --- rotating keys from a setting ---


def test_keys_from_a_setting_are_rotated_to_the_newest(
    database: Database, bank: Bank, with_keys: Callable[..., CardVault], kept: Path, few: None
) -> None:
    numbers = [card.number for version in (1, 2, 3) for card in issue(database, with_keys(version), bank, 3)]
    assert run(database, with_keys(3, 2, 1)) == Rotation(3, 6, False, False)
    assert opened(database, with_keys(3)) == numbers
    assert rotations(database) == ['{"version": 3, "count": 6}']
    assert not kept.exists()


def test_keys_from_a_setting_leave_nothing_to_do_if_all_cards_have_the_newest(
    database: Database, bank: Bank, with_keys: Callable[..., CardVault]
) -> None:
    issue(database, with_keys(3), bank)
    assert run(database, with_keys(3, 2)) == Rotation(3, 0, False, False)
    assert rotations(database) == []


@pytest.mark.parametrize(("given", "missing"), [((4, 2), 3), ((2, 1), 3)])
def test_keys_from_a_setting_that_lack_the_key_of_a_card_change_nothing(
    database: Database, bank: Bank, with_keys: Callable[..., CardVault], given: tuple[int, ...], missing: int
) -> None:
    for version in (2, 3):
        issue(database, with_keys(version), bank)
    with pytest.raises(CardKeyError, match=f"key version {missing}, which is not among"):
        run(database, with_keys(*given))
    assert versions(database) == [2, 3]


def test_keys_from_a_setting_with_another_secret_are_rejected(
    database: Database, bank: Bank, settings: Settings, with_keys: Callable[..., CardVault]
) -> None:
    issue(database, with_keys(3), bank)
    with pytest.raises(CardKeyError, match="sealed with another secret"):
        run(database, vault_with(settings, f"3:{'x' * 32}"))


# --- the command -------------------------------------------------------------------------------------------------


class TestTheCommand:
    def test_rotates_stored_keys(self, database: Database, bank: Bank, settings: Settings) -> None:
        issue(database, CardVault(Secrets(settings)), bank, 2)
        result = giro("keys", "rotate", "cards")
        assert (result.exit_code, result.stdout) == (0, "2 cards sealed again, all with card key version 2\n")
        assert versions(database) == [2, 2]

    def test_reports_that_it_completed_an_earlier_rotation(self, database: Database, settings: Settings) -> None:
        CardVault(Secrets(settings)).add_key()
        assert "an earlier rotation was interrupted" in everything_said(giro("keys", "rotate", "cards"))
        assert "version 3" in everything_said(giro("keys", "rotate", "cards"))

    def test_explains_how_to_add_a_key_to_a_setting(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GIRO_CARD_KEYS", keys_of(3))
        result = giro("keys", "rotate", "cards")
        assert result.exit_code == 0
        assert "0 cards sealed again, all with card key version 3" in result.stdout
        assert "put `4:` and a secret of 32 bytes in front" in result.stdout
        assert SECRETS[3] not in everything_said(result)

    def test_ends_with_one_line_if_a_key_is_missing(
        self, database: Database, bank: Bank, settings: Settings, kept: Path
    ) -> None:
        issue(database, CardVault(Secrets(settings)), bank)
        kept.write_text(keys_of(3))
        result = giro("keys", "rotate", "cards")
        assert result.exit_code == 2
        assert everything_said(result) == (
            "giro: some cards are sealed with key version 1, which is not among the card keys"
        )
