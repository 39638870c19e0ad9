"""Comparison of the schema in SQLite with the schema that this code would make."""

import re
from functools import cache

from sqlalchemy import Connection, create_engine

from core.storage.models import Base

_MASTER = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE tbl_name <> 'alembic_version'"

Schema = dict[str, str]
"""Each table, index and trigger by its kind and name, with the SQL that made it."""


def read(connection: Connection) -> Schema:
    """Read the schema of a database; the indexes of UNIQUE constraints have no SQL."""
    return {
        f"{kind} {name} of {table}": _normalised(sql or "automatic")
        for kind, name, table, sql in connection.exec_driver_sql(_MASTER)
    }


@cache
def expected() -> Schema:
    """Make an empty database of the models in memory, once, and read its schema."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        made = read(connection)
    engine.dispose()
    return made


def differences(connection: Connection) -> list[str]:
    """Name missing and changed parts, and every unknown trigger, because a trigger can change any write."""
    found, wanted = read(connection), expected()
    changed = [name for name in sorted(wanted.keys() & found.keys()) if found[name] != wanted[name]]
    strangers = [name for name in sorted(found.keys() - wanted.keys()) if name.startswith("trigger ")]
    return [
        *(f"{name} is missing" for name in sorted(wanted.keys() - found.keys())),
        *(f"{name} was changed" for name in changed),
        *(f"{name} is unknown" for name in strangers),
    ]


def _normalised(sql: str) -> str:
    """Write SQL in one way: no quotes around names, single spaces, no spaces around brackets and commas."""
    words = re.sub(r"\s+", " ", sql.replace('"', "")).strip()
    return re.sub(r" ?([(),=<>]+) ?", r"\1", words)
