"""The keys of cards: whether they fit the cards that are there, and sealing all cards anew under a new one."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping

from core.card_security import CardKeyError, CardKeys, CardVault
from core.domain.audit import Action, Author
from core.services.audit import write_down
from core.storage import cards
from core.storage.engine import Database
from core.storage.unit_of_work import unit_of_work

GROUP = 500
"""Cards sealed anew in one unit of work: some ten milliseconds, in which transfers wait."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did."""

    version: int
    """Of the key that every card is sealed with now."""
    count: int
    """Cards that were sealed anew."""
    added: bool
    """Whether it made a new key."""
    finished: bool
    """Whether it carried on with an earlier rotation that had been interrupted."""


def check_keys(database: Database, vault: CardVault) -> None:
    """Raise CardKeyError unless the vault fits the cards that are there: one of each key version is tried."""
    with database.reader.connect() as connection:
        _require_fitting(connection, vault)


def rotate(database: Database, vault: CardVault, author: Author, on_progress: Callable[[int, int], None]) -> Rotation:
    """Seal every card under a new key, or finish an earlier rotation that was interrupted.

    Where the keys lie in the data folder, a new one is added first and the older ones are dropped last. Where they
    are a setting, the newest one given is the new one. Cards go in groups, each in a unit of work of its own, so that
    transfers settle in between; `on_progress` is told how many are done, and of how many. Wherever it is interrupted,
    every card can be opened, and running it again finishes it. Raises CardKeyError for a card that the keys at hand do
    not open, in most cases before anything is changed; nothing is lost by it.
    """
    with unit_of_work(database) as connection:
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
        number = vault.keys().open(card["sealed_number"], version, card["public_id"])
        if vault.index(number) != card["number_index"]:
            raise CardKeyError(
                "the card index key is not the one that the cards were issued with; restore it from a backup"
            )


def _seal_group(database: Database, vault: CardVault) -> int:
    """Seal the next cards anew with the newest key, in one unit of work, and count them."""
    with unit_of_work(database) as connection:
        keys = vault.keys()
        older = [version for version in cards.key_versions(connection) if version < keys.newest]
        if not older:
            return 0
        group = cards.read_sealed(connection, older[0], GROUP)
        sealed = [(card["id"], _seal_anew(keys, card, older[0])) for card in group]
        cards.write_sealed(connection, keys.newest, sealed)
        return len(sealed)


def _seal_anew(keys: CardKeys, card: RowMapping, version: int) -> bytes:
    return keys.seal(keys.open(card["sealed_number"], version, card["public_id"]), card["public_id"])


def _finish(database: Database, vault: CardVault, author: Author, rotation: Rotation) -> None:
    """Write the rotation down, and then drop the older keys.

    In this order, in two units of work: a file cannot be rolled back, and what is written down twice (should the
    machine stop in between, and the command be run again) is better than what is not written down at all.
    """
    with unit_of_work(database) as connection:
        write_down(connection, author, Action.CARD_KEYS_ROTATED, version=rotation.version, count=rotation.count)
    if vault.keys_are_kept:
        with unit_of_work(database) as connection:
            # Since the new key was added, whoever issued a card found it, as both were inside units of work.
            if cards.count_older(connection, vault.keys().newest) == 0:
                vault.drop_older_keys()
