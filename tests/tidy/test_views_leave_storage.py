"""Storage returns frozen views: no other module gets an SQLAlchemy row or ORM object."""

import ast
import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, get_args, get_type_hints

import pytest
from sqlalchemy import Row, RowMapping
from sqlalchemy.engine import Result

import core
import core.storage
from core.domain.users import Identity
from core.storage import tokens, users
from core.storage.models import Base, User

HOME = Path(core.__file__).parent.parent
ROW_TYPES = {"Row", "RowMapping", "Result", "MappingResult", "ScalarResult"}
INSIDE = ("core.storage.models", "core.storage.rows", "core.storage.sqlite")


def modules() -> list[str]:
    found = (module.name for module in walk_packages(core.storage.__path__, "core.storage."))
    return [name for name in found if not name.startswith(INSIDE)]


def functions_of(module: Any) -> Iterator[Callable[..., Any]]:
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if function.__module__ == module.__name__ and not name.startswith("_"):
            yield function


def types_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from types_in(part)


def rows_returned_by(function: Callable[..., Any]) -> list[Any]:
    returned = types_in(get_type_hints(function).get("return"))
    return [kind for kind in returned if inspect.isclass(kind) and issubclass(kind, (Base, Row, RowMapping, Result))]


def row_types_named_in(source: str) -> list[str]:
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    return [
        alias.name
        for node in imports
        if (node.module or "").startswith("sqlalchemy")
        for alias in node.names
        if alias.name in ROW_TYPES
    ]


@pytest.mark.parametrize("name", modules())
def test_no_function_of_storage_returns_a_row_or_an_orm_object(name: str) -> None:
    returned = {function.__name__: rows_returned_by(function) for function in functions_of(import_module(name))}
    assert {name: kinds for name, kinds in returned.items() if kinds} == {}


@pytest.mark.parametrize("folder", ["api", "core", "workers"])
def test_no_module_outside_storage_names_a_type_of_row(folder: str) -> None:
    outside = [path for path in (HOME / folder).rglob("*.py") if "core/storage/" not in path.as_posix()]
    found = {path.relative_to(HOME).as_posix(): row_types_named_in(path.read_text()) for path in outside}
    assert {path: names for path, names in found.items() if names} == {}


def test_rows_and_orm_objects_are_found_inside_other_types() -> None:
    def one() -> User | None: ...

    def many() -> dict[int, list[RowMapping]]: ...

    def identity() -> Identity | None: ...

    assert [rows_returned_by(function) for function in (one, many, identity)] == [[User], [RowMapping], []]
    assert row_types_named_in("from sqlalchemy import Connection, RowMapping") == ["RowMapping"]


def test_functions_of_storage_are_checked() -> None:
    assert {users.__name__, tokens.__name__} <= set(modules())
    assert users.read in list(functions_of(users))
