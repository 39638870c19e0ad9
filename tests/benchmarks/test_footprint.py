"""The benchmark's count of a ledger's bytes on disk."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.benchmarks.footprint import bytes_in, trees


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database with trees of every depth from one page to three levels."""
    path = tmp_path / "any.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "PRAGMA page_size = 512; CREATE TABLE large (id INTEGER PRIMARY KEY, word TEXT); "
            "CREATE INDEX by_word ON large (word); CREATE TABLE small (id INTEGER PRIMARY KEY)"
        )
        connection.executemany(
            "INSERT INTO large (word) VALUES (?)", [(f"word {number:09}",) for number in range(9000)]
        )
        connection.commit()
    return path


def test_every_page_belongs_to_one_tree(file: Path) -> None:
    counted = trees(file)
    assert counted.total() == file.stat().st_size
    assert counted["anything else"] == 0
    assert counted["small"] == 512
    assert counted["large"] > 9000 * len("word 000000000")
    assert counted["large (word)"] > 9000 * len("word 000000000")


def test_free_pages_belong_to_no_tree(file: Path) -> None:
    before = trees(file)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP INDEX by_word")
        connection.commit()
    assert trees(file)["anything else"] == before["large (word)"]


def test_temporary_files_of_a_running_service_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "heartbeat").write_bytes(b"12345")
    (tmp_path / "ledger").write_bytes(b"123")
    assert bytes_in(tmp_path) == 3
