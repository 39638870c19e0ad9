"""All SQL is in core/storage and migrations. The test checks imports and calls, not words.

tests/conformance has none either, because its history is played on every engine.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import core

HOME = Path(core.__file__).parent.parent
FOLDERS = ("api", "core", "workers", "tests/conformance")
PLACES = ("core/storage", "core/models", "migrations")
BUILDERS = {"text", "select", "insert", "update", "delete", "literal_column", "table", "column", "func", "DDL", "union"}
RUNNERS = {"exec_driver_sql", "executescript", "executemany", "execute", "scalar", "scalars", "stream"}


def modules() -> list[Path]:
    found = [path for folder in FOLDERS for path in sorted((HOME / folder).rglob("*.py"))]
    return [path for path in found if not path.relative_to(HOME).as_posix().startswith(PLACES)]


def sql_in(source: str) -> Iterator[str]:
    """Return each import that builds SQL, and each call that runs it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sqlalchemy":
            yield from (f"imports {alias.name}" for alias in node.names if alias.name in BUILDERS)
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (f"imports {name}" for name in names if name.split(".")[0] in ("sqlite3", "pysqlite3"))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RUNNERS:
            yield f"calls {node.func.attr}"


ALLOWED = {"core/__init__.py"}
"""The module that replaces Python's SQLite with the current one."""


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(HOME).as_posix())
def test_no_sql_is_elsewhere(path: Path) -> None:
    if path.relative_to(HOME).as_posix() in ALLOWED:
        return
    assert list(sql_in(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "from sqlalchemy import select",
        "from sqlalchemy.sql import text as t",
        "from sqlalchemy.sql.expression import update",
        "connection.exec_driver_sql('SELECT 1')",
        "session.execute(query)",
        "import sqlite3",
        "from pysqlite3 import dbapi2",
    ],
)
def test_this_test_would_find_it(source: str) -> None:
    assert list(sql_in(source))


@pytest.mark.parametrize("source", ["from sqlalchemy import Connection", "from sqlalchemy.exc import DBAPIError"])
def test_other_imports_are_allowed(source: str) -> None:
    assert list(sql_in(source)) == []


def test_storage_contains_sql() -> None:
    storage = (HOME / "core/storage").rglob("*.py")
    assert sum(len(list(sql_in(path.read_text()))) for path in storage) > 20
