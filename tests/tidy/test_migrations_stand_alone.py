"""Migrations import nothing from Giro: later changes of the code would change old migrations."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import core

FOLDER = Path(core.__file__).parent.parent / "migrations"
ALLOWED = {"alembic", "sqlalchemy", *sys.stdlib_module_names}


def foreign_imports(source: str) -> Iterator[str]:
    """Return each import that is neither from the standard library nor a package for running migrations."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
        yield from (name for name in names if name.split(".")[0] not in ALLOWED)


@pytest.mark.parametrize("path", sorted((FOLDER / "versions").rglob("*.py")), ids=lambda path: path.stem)
def test_migration_imports_nothing_from_giro(path: Path) -> None:
    assert list(foreign_imports(path.read_text())) == []


def test_template_of_migrations_imports_nothing_from_giro() -> None:
    template = (FOLDER / "script.py.mako").read_text()
    imports = [line for line in template.splitlines() if line.startswith(("import ", "from "))]
    assert imports == ["from alembic import op"]


@pytest.mark.parametrize(
    "source",
    [
        "from core.clock import now_us",
        "import core.domain.blocks as blocks",
        "from api import errors",
        "import workers",
        "from .. import env",
        "from migrations import env",
        "def upgrade():\n    from core import ids",
    ],
)
def test_this_test_would_find_it(source: str) -> None:
    assert list(foreign_imports(source))
