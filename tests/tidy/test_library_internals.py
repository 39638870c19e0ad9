"""Every private name of a library that the product uses is in docs/reference/library-internals.md, with its test.

A private name begins with an underscore, or is in a module that does. Three ways to use one are found: an import, an
access to another object's attribute, and a class of ours that shares a name with a class of a library that it extends.
"""

import ast
import importlib
import inspect
import re
import textwrap
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import core

HOME = Path(core.__file__).parent.parent
PAGE = HOME / "docs" / "reference" / "library-internals.md"
PRODUCT = ("api", "core", "workers", "migrations", "deploy")

BUILDER = HOME / "deploy" / "docs"
"""The builder of the documentation site. Its libraries are in another environment."""

DOCUMENTED = {
    "_asdict", "_fields", "_make", "_replace",  # typing.NamedTuple
    "_value_",  # enum.Enum
    "_exit",  # os
    "_env_file",  # pydantic_settings.BaseSettings
}  # fmt: skip
"""Names that begin with an underscore although their library documents them."""

ACCESSORS = {"getattr", "setattr", "hasattr", "delattr"}


class Use(NamedTuple):
    """A private name and the file of the product that uses it."""

    name: str
    path: str


class Row(NamedTuple):
    """A row of one of the page's tables."""

    library: str
    names: list[str]
    paths: list[str]
    tests: list[str]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def product() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the product, by its path."""
    for folder in PRODUCT:
        for path in sorted((HOME / folder).rglob("*.py")):
            if path.parent == BUILDER:
                continue
            yield path.relative_to(HOME).as_posix(), parsed(path)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name.strip("_") != "" and name not in DOCUMENTED


# --- imports and attributes ----------------------------------------------------------------------------------------


def imported(tree: ast.AST) -> Iterator[str]:
    """The private parts of the imports from libraries."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] not in PRODUCT:
                yield from filter(is_private, parts)


def accessed(tree: ast.AST) -> Iterator[tuple[ast.expr | None, str]]:
    """Each access to an attribute, also by its name as a text, and each named argument: its object and its name."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value, name):
                yield value, name
            case ast.Call(ast.Name(function), [value, ast.Constant(str(name)), *_]) if function in ACCESSORS:
                yield value, name
            case ast.keyword(str(name)):
                yield None, name


def bound(tree: ast.AST) -> set[str]:
    """The names that a module defines: functions, classes, variables, parameters and attributes of `self`."""
    names = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return names | {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_ours(node.value)
    }


def is_ours(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def is_super(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def strange(tree: ast.AST, ours: set[str]) -> Iterator[str]:
    """The private names that a module uses and does not define; of `self`, those that are not in `ours` either.

    `ours` are the names that the product defines. If a class of a library has such a name too, `shared` finds it.
    """
    yield from imported(tree)
    own = bound(tree)
    for value, name in accessed(tree):
        if is_private(name) and name not in (ours if is_ours(value) or is_super(value) else own):
            yield name


# --- classes -------------------------------------------------------------------------------------------------------


def members(tree: ast.AST) -> set[str]:
    """The names that the code of a class uses of itself: methods, variables, attributes."""
    own = {name for value, name in accessed(tree) if is_ours(value) or is_super(value)}
    kinds = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return own | {name for kind in kinds for part in kind.body for name in bound_in_class(part)}


def parameters(tree: ast.AST) -> set[str]:
    return {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}


def bound_in_class(part: ast.stmt) -> Iterator[str]:
    match part:
        case ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
            yield name
        case ast.Assign(targets):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(ast.Name(name)):
            yield name


@cache
def code_of(kind: type) -> ast.AST:
    """The code of a library's class; empty if it is not written in Python."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError):
        return ast.Module([], [])


@cache  # many classes of the product extend the same one
def members_of(kind: type) -> set[str]:
    return set(vars(kind)) | members(code_of(kind))


@cache
def parameters_of(kind: type) -> set[str]:
    return parameters(code_of(kind))


def extended(path: str, node: ast.ClassDef) -> list[type]:
    """The libraries' classes that a class of the product extends."""
    if not node.bases:
        return []
    module = importlib.import_module(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    kind = getattr(module, node.name, None)
    found = inspect.getmro(kind) if inspect.isclass(kind) else ()
    return [base for base in found if base is not object and base.__module__.split(".")[0] not in PRODUCT]


def classes(path: str, tree: ast.Module) -> Iterator[tuple[ast.ClassDef, list[type]]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and (bases := extended(path, node)):
            yield node, bases


def shared(path: str, tree: ast.Module) -> Iterator[str]:
    """The private names of a library's class that a class of ours calls, replaces or happens to use as well."""
    for node, bases in classes(path, tree):
        for base in bases:
            common = members(node) & members_of(base) | parameters(node) & parameters_of(base)
            yield from filter(is_private, common)


@cache
def private_uses() -> set[Use]:
    trees = dict(product())
    ours = set().union(*map(bound, trees.values()))
    return {Use(name, path) for path, tree in trees.items() for name in {*strange(tree, ours), *shared(path, tree)}}


# --- the page ------------------------------------------------------------------------------------------------------


@cache
def rows(heading: str) -> list[Row]:
    """The rows of the table below a heading: library and version, names, files, reason, tests."""
    _, _, rest = PAGE.read_text().partition(f"\n## {heading}\n")
    table = rest.partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines() if line.startswith("| ")
    ]
    return [
        Row(library, *(re.findall(r"`([^`]+)`", cell) for cell in (names, paths, tests)))
        for library, names, paths, _, tests in cells[1:]
    ]


PRIVATE, UNDOCUMENTED = "Private names", "Undocumented behaviour"


def words(path: str) -> set[str]:
    """The names and the texts in a file of the product."""
    tree = parsed(HOME / path)
    found = bound(tree) | {name for _, name in accessed(tree)}
    for node in ast.walk(tree):
        match node:
            case ast.Name(name) | ast.alias(name):
                found.add(name)
            case ast.Constant(str(text)):
                found.add(text)
    return found


def is_used(name: str, path: str) -> bool:
    found = words(path)
    return name.rpartition(".")[2] in found or any(name in text for text in found)


@cache
def cases_in(path: str) -> set[str]:
    """The tests in a file: `test_it` and `TestThem::test_it`."""
    found = set()
    for node in parsed(HOME / path).body if (HOME / path).exists() else []:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {f"{prefix}{one.name}" for one in inner if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def locked() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (HOME / "requirements.lock").read_text(), re.MULTILINE))


# --- the tests -----------------------------------------------------------------------------------------------------


def test_every_private_name_in_use_is_on_the_page() -> None:
    listed = {Use(name, path) for row in rows(PRIVATE) for name in row.names for path in row.paths}
    assert private_uses() - listed == set(), f"use a public name, or add a row to {PAGE.name} with a test"
    assert listed - private_uses() == set(), f"remove these from {PAGE.name}: they are not used any more"


def test_every_member_of_an_extended_undocumented_class_is_on_the_page() -> None:
    listed = {name for row in rows(PRIVATE) + rows(UNDOCUMENTED) for name in row.names}
    missing = {
        (base.__name__, name)
        for path, tree in product()
        for node, bases in classes(path, tree)
        for base in bases
        if base.__name__ in listed
        for name in members(node) & members_of(base) - listed
        if not name.startswith("__") and not any(name in vars(other) for other in bases[bases.index(base) + 1 :])
    }
    assert missing == set()


def test_every_undocumented_name_on_the_page_is_in_use() -> None:
    unused = {
        (name, path)
        for row in rows(UNDOCUMENTED)
        for name in row.names
        for path in row.paths
        if not is_used(name, path)
    }
    assert unused == set()


def test_every_row_names_the_locked_version() -> None:
    versions = locked()
    for row in rows(PRIVATE) + rows(UNDOCUMENTED):
        library, _, version = row.library.partition(" ")
        assert version == versions.get(library), (
            f"{library}: read the code of the new version before you change the page"
        )


def test_every_test_on_the_page_exists() -> None:
    named = {name for row in rows(PRIVATE) + rows(UNDOCUMENTED) for name in row.tests}
    missing = {name for name in named if name.partition("::")[2] not in cases_in(name.partition("::")[0])}
    assert missing == set()


@pytest.mark.parametrize("heading", [PRIVATE, UNDOCUMENTED])
def test_every_row_has_names_files_and_tests(heading: str) -> None:
    assert rows(heading)
    assert [row for row in rows(heading) if not (row.names and row.paths and row.tests)] == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from library import _hidden", {"_hidden"}),
        ("from library._inner import name", {"_inner"}),
        ("import library._inner", {"_inner"}),
        ("thing._hidden", {"_hidden"}),
        ("self.thing._hidden", {"_hidden"}),
        ("super()._hidden()", {"_hidden"}),
        ("self._hidden", {"_hidden"}),
        ("hasattr(thing, '_hidden')", {"_hidden"}),
        ("call(_hidden=1)", {"_hidden"}),
        ("class A:\n    def __init__(self): self._own = 1\n    def f(self, other): return other._own", set()),
        ("thing.__dict__; row._asdict()", set()),
        ("from core.clock import _now", set()),
    ],
)
def test_a_private_name_is_found(code: str, found: set[str]) -> None:
    tree = ast.parse(code)
    assert set(strange(tree, bound(tree))) == found


def test_a_name_shared_with_a_librarys_class_is_found() -> None:
    code = "class Ours(Thread):\n    _started = 0\n    def run(self): self._target = self._mine = 1"
    assert members(ast.parse(code)) & members_of(threading.Thread) == {"_started", "_target", "run"}
