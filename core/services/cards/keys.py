"""The keys of cards: checking that they fit the stored cards, and resealing all cards under a new key."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from core.domain.audit import Action, Author
from core.domain.lanes import Lane
from core.security.card_vault import CardKeyError, CardKeys, CardVault
from core.services.audit import write_down
from core.storage import cards
from core.storage.cards import SealedCard
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work

GROUP = 500
"""Cards resealed in one unit of work. It takes some ten milliseconds, in which transfers wait."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """The result of a rotation."""

    version: int
    """The version of the key that seals every card now."""
    count: int
    """Cards that were resealed."""
    added: bool
    """Whether it made a new key."""
    finished: bool
    """Whether it continued an earlier rotation that had been interrupted."""


def check_keys(database: Engine, vault: CardVault) -> None:
    """Raise CardKeyError unless the vault fits the stored cards. One card of each key version is tried."""
    with database.reading() as connection:
        _require_fitting(connection, vault)


def rotate(database: Engine, vault: CardVault, author: Author, on_progress: Callable[[int, int], None]) -> Rotation:
    """Seal every card under a new key, or finish an earlier rotation that was interrupted.

    If the keys are in the data folder, a new key is added first and the older keys are dropped last. If they are a
    setting, the newest key given is the new one. Cards are resealed in groups, each in its own unit of work, so that
    transfers settle in between. `on_progress` gets the number of cards done, and the total. Wherever the rotation is
    interrupted, every card can be opened, and another run finishes it. Raises CardKeyError if the available keys do
    not open a card, in most cases before any change; nothing is lost.
    """
    with unit_of_work(database, Lane.ACCEPT) as connection:
        _require_fitting(connection, vault)
        finished = vault.keys_are_kept and len(vault.keys().versions) > 1
        added = vault.keys_are_kept and not finished
        if added:
            vault.add_key()
        newest = vault.keys().newest
        total = cards.count_older(connection, newest)
    count = 0
    while moved := _seal_group(database, vault):
        count += moved
        on_progress(count, total)
    if added or finished or count:
        _finish(database, vault, author, Rotation(newest, count, added, finished))
    return Rotation(newest, count, added, finished)


def _require_fitting(connection: Connection, vault: CardVault) -> None:
    for version in cards.key_versions(connection):
        (card,) = cards.read_sealed(connection, version, 1)
        number = vault.keys().open(card.sealed_number, version, card.public_id)
        if vault.index(number) != card.number_index:
            raise CardKeyError(
                "the card index key is not the one that the cards were issued with; restore it from a backup"
            )


def _seal_group(database: Engine, vault: CardVault) -> int:
    """Reseal the next cards with the newest key in one unit of work, and return how many."""
    with unit_of_work(database, Lane.ACCEPT) as connection:
        keys = vault.keys()
        older = [version for version in cards.key_versions(connection) if version < keys.newest]
        if not older:
            return 0
        group = cards.read_sealed(connection, older[0], GROUP)
        sealed = [(card.id, _reseal(keys, card, older[0])) for card in group]
        cards.write_sealed(connection, keys.newest, sealed)
        return len(sealed)


def _reseal(keys: CardKeys, card: SealedCard, version: int) -> bytes:
    return keys.seal(keys.open(card.sealed_number, version, card.public_id), card.public_id)


def _finish(database: Engine, vault: CardVault, author: Author, rotation: Rotation) -> None:
    """Record the rotation, and then drop the older keys.

    This takes two units of work, in this order, because a file cannot be rolled back. If the machine stops in between
    and the command is run again, the rotation is recorded twice. That is better than not at all.
    """
    with unit_of_work(database, Lane.ACCEPT) as connection:
        write_down(connection, author, Action.CARD_KEYS_ROTATED, version=rotation.version, count=rotation.count)
    if vault.keys_are_kept:
        with unit_of_work(database, Lane.ACCEPT) as connection:
            # Every card issued since the new key was added uses it, because both happened in units of work of one lane.
            if cards.count_older(connection, vault.keys().newest) == 0:
                vault.drop_older_keys()
