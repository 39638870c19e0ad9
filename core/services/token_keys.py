"""The keys of access tokens: replacing the key that signs."""

from core.domain.audit import Action, Author
from core.domain.lanes import Lane
from core.security.token_keys import TokenKeys, TokenRing
from core.services.audit import write_down
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work


def rotate(
    database: Engine, keys: TokenKeys, author: Author, *, token_seconds: int, at_once: bool = False
) -> TokenRing:
    """Let a new key sign, and accept the older keys until the tokens that they have signed end; see TokenKeys.

    Two concurrent rotations make a key each, because their lane runs them one after the other. The file is written
    last, since it cannot be rolled back. If the commit fails after that, the new key exists but is not recorded. No
    token is refused for it, and another rotation records the next key. Raises SettingsError if the keys are a setting.
    """
    with unit_of_work(database, Lane.ACCEPT) as connection:
        version = keys.ring(refresh=True).signing.version + 1
        accepted = 0 if at_once else token_seconds
        write_down(connection, author, Action.TOKEN_KEYS_ROTATED, version=version, older_for_seconds=accepted)
        return keys.rotate(token_seconds=token_seconds, at_once=at_once)
