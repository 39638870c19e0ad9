"""A damaged ledger is refused before a long migration changes anything, or at the damaged row."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.settings import Settings
from core.storage.engines import DatabaseError
from core.storage.sqlite.engine import Database
from tests.old_ledger import upgrade
from tests.tampering import unguarded
from tests.unit.storage.long_migrations.ledgers import BEFORE, PAGE, Content, content, read, revision, rows_of

DAMAGES = {
    "an end without a time": "UPDATE transfers SET settled_at = NULL WHERE id = 77",
    "a time without an end": "UPDATE transfers SET status = 'pending', failure_code = NULL WHERE id = 77",
    "an unknown status": "UPDATE transfers SET status = 'lost' WHERE id = 77",
    "an impossible amount": "UPDATE transfers SET amount = -1 WHERE id = 77",
}
REPAIR = "UPDATE transfers SET (status, settled_at, amount, failure_code) = (?, ?, ?, ?) WHERE id = 77"


def damage(path: Path, statement: str) -> Callable[[], None]:
    """Damage transfer 77, and return what repairs it."""
    whole = read(path, "SELECT status, settled_at, amount, failure_code FROM transfers WHERE id = 77")[0]

    def run(query: str, *values: object) -> None:
        with unguarded(path) as raw:
            raw.execute(query, values)

    run(statement)
    return lambda: run(REPAIR, *whole)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("statement", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_ledger_is_refused_before_anything_is_changed(
    settings: Settings, ledger: Path, at_once: Content, statement: str
) -> None:
    repair = damage(ledger, statement)
    before = content(ledger)
    with pytest.raises(DatabaseError, match="the ledger is damaged: CHECK constraint failed in transfers; nothing was"):
        upgrade(settings, "head")
    assert content(ledger) == before
    repair()
    upgrade(settings, "head")
    assert rows_of(content(ledger)) == rows_of(at_once)


@pytest.mark.usefixtures("small_chunks")
def test_reference_to_a_missing_row_is_refused_before_anything_is_changed(settings: Settings, ledger: Path) -> None:
    with unguarded(ledger) as raw:
        raw.execute("UPDATE transactions SET account_id = 99 WHERE id = 7")
    before = content(ledger)
    with pytest.raises(DatabaseError, match="row 7 of transactions refers to a missing row of accounts; nothing was"):
        upgrade(settings, "head")
    assert content(ledger) == before


@pytest.mark.parametrize("statement", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_row_is_named_and_can_be_repaired_in_the_middle(
    settings: Settings, begun: Database, at_once: Content, statement: str
) -> None:
    repair = damage(begun.path, statement)
    before = content(begun.path)
    with pytest.raises(DatabaseError, match=r"^row 77 of transfers is damaged \(.*failed: .*; nothing is lost: once"):
        upgrade(settings, "head")
    assert content(begun.path) == before
    repair()
    upgrade(settings, "head")
    assert rows_of(content(begun.path)) == rows_of(at_once)


def test_damaged_row_of_a_small_ledger_is_named(settings: Settings, ledger: Path) -> None:
    damage(ledger, DAMAGES["an end without a time"])
    before = content(ledger)
    with pytest.raises(DatabaseError, match="row 77 of transfers is damaged"):
        upgrade(settings, "head")
    assert content(ledger) == before


@pytest.mark.usefixtures("small_chunks")
def test_damaged_page_is_refused_before_anything_is_changed(settings: Settings, ledger: Path) -> None:
    (root,) = read(ledger, "SELECT rootpage FROM sqlite_master WHERE name = 'transfers'")[0]
    assert isinstance(root, int)
    with ledger.open("r+b") as file:
        file.seek((root - 1) * PAGE)
        page = file.read(PAGE)
        first_cell = int.from_bytes(page[12:14])
        leaf = int.from_bytes(page[first_cell : first_cell + 4])
        file.seek((leaf - 1) * PAGE)
        file.write(bytes(PAGE))
    with pytest.raises(DatabaseError, match=r"the ledger is damaged: .* malformed; nothing was changed"):
        upgrade(settings, "head")
    assert revision(ledger) == BEFORE
