"""Card keys: their text form, their place, and a start that fails if they do not fit the cards."""

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.cli.service import prepare
from core.processes.database_hold import alone
from core.security.card_vault import CardKeyError, CardVault
from core.security.secrets import Secrets
from core.services.cards.keys import check_keys
from core.settings import Settings, SettingsError, load_settings
from core.settings.key_lists import parse_keys
from core.storage.sqlite.engine import Database
from tests.builders import Bank
from tests.unit.cli.test_cli import everything_said, giro
from tests.unit.services.cards.card_builders import SECRETS, issue, keys_of, vault_with


@pytest.fixture
def with_keys(settings: Settings) -> Callable[..., CardVault]:
    """Make vaults whose keys of some versions come from a setting."""
    return lambda *versions: vault_with(settings, keys_of(*versions))


@pytest.fixture
def kept(settings: Settings) -> Path:
    """The key file."""
    return Secrets(settings).card_keys.path


# --- keys as text ------------------------------------------------------------------------------------------------


def test_keys_are_read_as_they_were_written() -> None:
    assert parse_keys(keys_of(1, 3, 2)) == {3: SECRETS[3], 2: SECRETS[2], 1: SECRETS[1]}
    assert parse_keys(f" 12:{'a:b' * 12} , 2:{SECRETS[2]}\n") == {12: "a:b" * 12, 2: SECRETS[2]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "item 1 must be `version:secret`"),
        ("hunter2" * 8, "item 1 must be `version:secret`"),
        (f"x:{'hunter2' * 8}", "whole number as version"),
        (f"-1:{'hunter2' * 8}", "whole number as version"),
        (f"١:{'hunter2' * 8}", "whole number as version"),
        (f"0:{'hunter2' * 8}", "must be from 1 to"),
        (f"{10**9 + 1}:{'hunter2' * 8}", "must be from 1 to"),
        ("1:hunter2", "version 1 needs at least 32 bytes"),
        (f"2:{'hunter2' * 8},", "item 2 must be"),
        (f"1:{'hunter2' * 8},2:{'hunter2' * 8}", "the newest key comes first"),
        (f"2:{'hunter2' * 8},2:{'hunter2' * 8}", "the newest key comes first"),
    ],
    ids=["nothing", "no_version", "letter", "negative", "other_digits", "zero", "huge", "short", "empty_item", "order",
         "twice"],
)  # fmt: skip
def test_wrong_keys_are_reported_in_one_line_without_the_secret(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, kept: Path, text: str, words: str
) -> None:
    complaints = []
    if text:  # an empty variable counts as unset
        monkeypatch.setenv("GIRO_CARD_KEYS", text)
        with pytest.raises(SettingsError, match=r"^GIRO_CARD_KEYS: ") as error:
            load_settings(_env_file=None)
        complaints.append(str(error.value))
    kept.parent.mkdir(parents=True)
    kept.write_text(text)
    with pytest.raises(SettingsError, match="card_keys has no valid card keys") as error:
        CardVault(Secrets(settings))
    complaints.append(str(error.value))
    for complaint in complaints:
        assert words in complaint
        assert "\n" not in complaint
        assert "hunter2" not in complaint


def test_a_short_index_key_is_refused(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("GIRO_CARD_INDEX_KEY", "x" * 31)
    with pytest.raises(SettingsError, match=r"^GIRO_CARD_INDEX_KEY: needs at least 32 bytes"):
        load_settings(_env_file=None)


# --- where they are stored ---


def test_keys_are_made_once_and_only_the_owner_can_read_them(settings: Settings, kept: Path) -> None:
    CardVault(Secrets(settings))
    written = {path.name: path.read_text() for path in kept.parent.iterdir()}
    assert written.keys() == {"card_keys", "card_index_key"}
    assert len(set(written.values())) == 2
    assert parse_keys(written["card_keys"]).keys() == {1}
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.parent.iterdir()} == {0o600}
    CardVault(Secrets(settings))
    assert {path.name: path.read_text() for path in kept.parent.iterdir()} == written


def test_processes_that_make_the_keys_at_once_all_get_the_same_keys(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        vaults = list(pool.map(lambda _: CardVault(Secrets(settings)), range(8)))
    assert len({vault.index("9999990000000006") for vault in vaults}) == 1
    assert len({vault.path.read_text() for vault in vaults}) == 1


def test_keys_from_settings_are_used_and_nothing_is_written(with_keys: Callable[..., CardVault], kept: Path) -> None:
    assert with_keys(2, 1).keys().versions == {1, 2}
    assert not kept.parent.exists()


def test_a_deleted_key_file_is_not_made_again_while_running(settings: Settings, kept: Path) -> None:
    vault = CardVault(Secrets(settings))
    kept.unlink()
    with pytest.raises(SettingsError, match=r"cannot read .*card_keys \(No such file"):
        vault.keys()
    assert not kept.exists()


class TestTheCheckAtTheStart:
    def test_accepts_keys_that_fit(self, database: Database, bank: Bank, settings: Settings) -> None:
        vault = CardVault(Secrets(settings))
        check_keys(database, vault)
        issue(database, vault, bank)
        check_keys(database, CardVault(Secrets(settings)))

    def test_rejects_newly_made_keys(self, database: Database, bank: Bank, settings: Settings, kept: Path) -> None:
        issue(database, CardVault(Secrets(settings)), bank)
        kept.unlink()
        with pytest.raises(CardKeyError, match="sealed with another secret"):
            check_keys(database, CardVault(Secrets(settings)))

    def test_rejects_another_index_key(self, database: Database, bank: Bank, settings: Settings, kept: Path) -> None:
        issue(database, CardVault(Secrets(settings)), bank)
        kept.with_name("card_index_key").write_text("x" * 40)
        changed = load_settings(_env_file=None, data_dir=settings.data_dir)
        with pytest.raises(CardKeyError, match="the card index key is not the one"):
            check_keys(database, CardVault(Secrets(changed)))

    def test_rejects_keys_when_the_key_of_any_card_is_missing(
        self, database: Database, bank: Bank, with_keys: Callable[..., CardVault]
    ) -> None:
        for version in (1, 2, 3):
            issue(database, with_keys(version), bank)
        check_keys(database, with_keys(4, 3, 2, 1))
        with pytest.raises(CardKeyError, match="key version 2, which is not among"):
            check_keys(database, with_keys(3, 1))


class TestAStartWithKeysThatDoNotFit:
    @pytest.fixture(autouse=True)
    def _wrong_keys(self, database: Database, bank: Bank, settings: Settings, kept: Path, as_it_was: None) -> None:
        issue(database, CardVault(Secrets(settings)), bank)
        kept.write_text(keys_of(3))
        database.close()

    def test_of_the_api_ends_with_one_line(self) -> None:
        result = giro("api")
        assert (result.exit_code, result.stdout) == (2, "")
        assert everything_said(result) == (
            "giro: some cards are sealed with key version 1, which is not among the card keys"
        )

    def test_of_the_whole_service_fails_before_anything_runs(self, settings: Settings) -> None:
        with pytest.raises(SettingsError, match="key version 1, which is not among the card keys"):
            prepare(settings, hold=alone)
