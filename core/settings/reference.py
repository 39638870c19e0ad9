"""The settings written down: the tables of docs/reference/settings.md, and `.env.example`.

Run as `make reference` in a checkout. A test fails if either file differs from the code.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic.fields import FieldInfo

from core.settings import OF_COMPOSE, Settings, variable
from core.settings.groups.base import SettingsGroup
from core.settings.types import RateText

HOME = Path(__file__).parents[2]
PAGE = HOME / "docs" / "reference" / "settings.md"
EXAMPLE = HOME / ".env.example"
BEGIN, END = "<!-- written by `make reference` -->\n", "<!-- end -->\n"
WIDTH = 118
CONSTRAINTS: dict[type, str] = {Ge: "ge", Gt: "gt", Le: "le", MinLen: "min_length", MaxLen: "max_length"}


def main() -> None:
    """Write both files again."""
    PAGE.write_text(page(PAGE.read_text()))
    EXAMPLE.write_text(example())


def page(text: str) -> str:
    """Return the text of the page, with its tables as the code has them."""
    tables = "\n".join(_table(group) for group in Settings.groups())
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{tables}\n{END}", text, flags=re.DOTALL)


def example() -> str:
    """Return the text of `.env.example`: every variable with its default, as a comment."""
    lines = ["# Every setting with its default. Copy this file to `.env`, and change the lines that you need."]
    for group in Settings.groups():
        lines += ["", f"# --- {group.title}"]
        for name, field in _fields(group):
            lines += ["", *_comment(f"{field.description}"), f"#{variable(name)}={_default(field)}"]
    lines += ["", "# --- Docker Compose"]
    for name, (default, meaning) in OF_COMPOSE.items():
        lines += ["", *_comment(meaning), f"#{name}={default}"]
    return "\n".join(lines) + "\n"


def _table(group: type[SettingsGroup]) -> str:
    rows = (
        f"| `{variable(name)}` | {_code(_default(field))} | {_range(field)} | {field.description} |"
        for name, field in _fields(group)
    )
    return "\n".join(
        (f"## {group.title}\n", "| variable | default | range | meaning |", "|---|---|---|---|", *rows, "")
    )


def _fields(group: type[SettingsGroup]) -> Iterator[tuple[str, FieldInfo]]:
    return ((name, Settings.model_fields[name]) for name in group.names())


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else f"./{value}" if isinstance(value, Path) else str(value)


def _range(field: FieldInfo) -> str:
    """Say which values are allowed, as far as the field's constraints tell."""
    if field.annotation is bool:
        return "`true`, `false`"
    if choices := [choice for choice in get_args(field.annotation) if isinstance(choice, str)]:
        return ", ".join(_code(choice) for choice in choices)
    if _is_rate(field):
        return "`off`, or requests/seconds"
    limits = {type(item): getattr(item, attribute) for item in field.metadata for attribute in _attribute_of(item)}
    least, most = limits.get(Ge, limits.get(MinLen)), limits.get(Le, limits.get(MaxLen))
    unit = " characters" if MaxLen in limits else ""
    if Gt in limits:
        return f"above {limits[Gt]}" + ("" if most is None else f", up to {most}")
    if least is None:
        return "" if most is None else f"up to {most}{unit}"
    return f"from {least}" if most is None else f"{least} to {most}{unit}"


def _is_rate(field: FieldInfo) -> bool:
    return set(get_args(RateText)[1:]) <= set(field.metadata)


def _attribute_of(constraint: object) -> list[str]:
    """Return the name of the attribute that has a constraint's number; empty for other metadata."""
    return [name for kind, name in CONSTRAINTS.items() if isinstance(constraint, kind)]


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text.replace("`", ""), WIDTH, initial_indent="# ", subsequent_indent="# ")


if __name__ == "__main__":
    main()
