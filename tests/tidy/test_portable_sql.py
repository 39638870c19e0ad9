"""SQL outside core/storage/sqlite is portable: it has names for its values, and no words that only SQLite knows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import core
from core.storage.sqlite import statements

HOME = Path(core.__file__).parent.parent
STORAGE = HOME / "core" / "storage"
EXEMPT = ("sqlite/", "models/", "sql.py")
"""SQLite's own words; tables, whose types, CHECKs, partial indexes and triggers are SQLite's; and the translation."""
NOT_YET = {"running_totals.py", "statements.py", "transactions.py", "transfer_lists.py"}
"""Files whose statements are still being rewritten."""

FOREIGN = [
    r"\?",
    r"%s",
    r"\bjson_each\b",
    r"->",
    r"\bOR (IGNORE|REPLACE|ABORT|ROLLBACK|FAIL)\b",
    r"\b(iif|ifnull|printf|glob|total|group_concat|randomblob|unixepoch|julianday|strftime|typeof)\s*\(",
    r"\b(max|min)\s*\((?:[^()]|\([^()]*\))*,",
    r"\b(PRAGMA|MATERIALIZED|GLOB|INDEXED BY|rowid|_rowid_)\b",
    r"\bsqlite_",
    r"\bIS (NOT )?(?!(NOT )?(NULL|DISTINCT|TRUE|FALSE)\b)\S",
    r"\bLIMIT -",
    r"\bCROSS JOIN (?:(?!\b(?:JOIN|WHERE|SELECT|UNION|ORDER|GROUP|LIMIT)\b)[^()])*\bON\b",
    r"\bIN \(\s*\)",
]
"""Words of SQLite, places for values without names, and forms that PostgreSQL reads in another way or refuses."""
_SQL = re.compile(
    r"\b(SELECT|INSERT|UPDATE|DELETE|WITH|FROM|WHERE|JOIN|VALUES|ORDER BY|EXISTS|CAST|LIMIT|IS|CASE)\b"
    r"|^[\s(),?]*\?[\s(),?]*$"
)


def modules() -> list[Path]:
    names = (path.relative_to(STORAGE).as_posix() for path in sorted(STORAGE.rglob("*.py")))
    return [STORAGE / name for name in names if not name.startswith(EXEMPT) and name not in NOT_YET]


def texts_in(source: str) -> Iterator[str]:
    """Return each string that is not a docstring; what an f-string fills in is left out, because it is a constant."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "constant" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def foreign_words_in(source: str) -> list[str]:
    texts = (text for text in texts_in(source) if _SQL.search(text))
    bare = (re.sub(r"'[^']*'", "''", text) for text in texts)
    return [found[0] for text in bare for word in FOREIGN for found in re.finditer(word, text, re.DOTALL)]


def names_asked_for() -> set[str]:
    calls = (node for path in STORAGE.glob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    return {
        call.args[0].value
        for call in calls
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "EngineStatement"
        and isinstance(call.args[0], ast.Constant)
    }


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(STORAGE).as_posix())
def test_sql_is_portable(path: Path) -> None:
    assert foreign_words_in(path.read_text()) == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(STORAGE).as_posix())
def test_the_driver_gets_named_statements_only(path: Path) -> None:
    assert "exec_driver_sql" not in path.read_text()


def test_each_statement_that_only_sqlite_understands_is_asked_for_by_its_name() -> None:
    own = {name for name, value in vars(statements).items() if isinstance(value, str) and name.isupper()}
    assert own == names_asked_for()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM t WHERE id = ?",
        "SELECT id FROM t WHERE id = ?1",
        "SELECT id FROM t WHERE id = %s",
        "SELECT value FROM json_each(:ids)",
        "SELECT details ->> 'after' FROM t",
        "UPDATE OR IGNORE t SET id = 1",
        "INSERT OR REPLACE INTO t VALUES (1)",
        "SELECT iif(id > 1, 2, 3) FROM t",
        "SELECT ifnull(id, 0) FROM t",
        "SELECT max(id, :least) FROM t",
        "SELECT max(coalesce(id, 0), :least) FROM t",
        "SELECT rowid FROM t",
        "WITH t AS MATERIALIZED (SELECT 1) SELECT 1",
        "SELECT name FROM sqlite_master WHERE 1 = 1",
        "SELECT id FROM t WHERE name GLOB 'a*'",
        "SELECT id FROM t WHERE id IS :id",
        "SELECT id FROM t WHERE id IS NOT a.id",
        "SELECT id FROM t ORDER BY id LIMIT -1 OFFSET :keep",
        "SELECT id FROM t CROSS JOIN u ON u.id = t.id",
        "SELECT id FROM t CROSS JOIN u x\n ON x.id = t.id",
        "SELECT id FROM t CROSS JOIN {_TABLE} ON x.id = t.id",
        "SELECT id FROM t WHERE id IN ()",
        "(?, ?)",
    ],
)
def test_this_test_would_find_it(sql: str) -> None:
    prefix = "f" if "{" in sql else ""
    assert foreign_words_in(f"query = {prefix}{sql!r}")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT max(id), min(coalesce(id, 0)), '?', 'a -> b' FROM t WHERE id IN (:ids*)",
        "SELECT id FROM t WHERE a IS NOT NULL AND b IS NULL AND c IS NOT DISTINCT FROM :c AND d IS DISTINCT FROM :d",
        "SELECT id FROM t CROSS JOIN u JOIN v ON v.id = u.id WHERE u.id = t.id",
        "SELECT id FROM t CROSS JOIN u WHERE NOT EXISTS (SELECT 1 FROM v JOIN w ON w.id = v.id)",
        "INSERT INTO t VALUES (:id) ON CONFLICT (id) DO NOTHING RETURNING id",
        "Is this a question?",
    ],
)
def test_portable_sql_is_allowed(sql: str) -> None:
    assert foreign_words_in(f"query = {sql!r}") == []


def test_docstrings_are_not_sql() -> None:
    assert foreign_words_in('"""SELECT ? FROM json_each."""\nA = 1\n"""OR IGNORE, FROM rowid"""') == []
