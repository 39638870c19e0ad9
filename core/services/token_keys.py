"""The keys of access tokens: a new one in the old one's place."""

from core.domain.audit import Action, Author
from core.services.audit import write_down
from core.storage.engine import Database
from core.storage.unit_of_work import unit_of_work
from core.token_keys import TokenKeys, TokenRing


def rotate(
    database: Database, keys: TokenKeys, author: Author, *, token_seconds: int, at_once: bool = False
) -> TokenRing:
    """Have a new key sign, and the older ones accepted until the tokens end that they have signed; see TokenKeys.

    Of two rotations at once each makes its key: the turnstile lets one in after the other. The file comes last, since
    it cannot be rolled back. Should the commit fail after it, the new key is there and not written down; nobody is
    refused for it, and running this again writes down the next one. Raises SettingsError where the keys are a setting.
    """
    with unit_of_work(database) as connection:
        version = keys.ring(anew=True).signing.version + 1
        accepted = 0 if at_once else token_seconds
        write_down(connection, author, Action.TOKEN_KEYS_ROTATED, version=version, older_for_seconds=accepted)
        return keys.rotate(token_seconds=token_seconds, at_once=at_once)
