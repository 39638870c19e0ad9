"""Cards and card keys for the tests of both."""

from core.security.card_vault import CardVault
from core.security.secrets import Secrets
from core.services.cards.issuing import IssuedCard
from core.settings import Settings, load_settings
from core.settings.key_lists import write_keys
from core.storage.sqlite.engine import Database
from tests.builders import Bank, issue_card, rows

SECRETS = {version: str(version) * 32 for version in range(1, 6)}
INDEX_KEY = "i" * 32


def keys_of(*versions: int) -> str:
    """Write keys of these versions in the form of a setting."""
    return write_keys({version: SECRETS[version] for version in versions})


def vault_with(settings: Settings, text: str) -> CardVault:
    """Make the vault of a process that has its sealing keys from a setting."""
    given = {"card_keys": text, "card_index_key": INDEX_KEY}
    return CardVault(Secrets(load_settings(_env_file=None, data_dir=settings.data_dir, **given)))


def issue(database: Database, vault: CardVault, bank: Bank, count: int = 1) -> list[IssuedCard]:
    """Issue cards for Ada's account."""
    return [issue_card(database, vault, bank.ada, bank.ada_account, most=1000) for _ in range(count)]


def versions(database: Database) -> list[int]:
    """The key version of every card, in the order of issue."""
    return [row["key_version"] for row in rows(database, "SELECT key_version FROM cards ORDER BY id")]
