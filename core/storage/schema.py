"""The schema as SQLite keeps it, held to what this code would make."""

import re
from functools import cache

from sqlalchemy import Connection, create_engine

from core.models import Base

_MASTER = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE tbl_name <> 'alembic_version'"

Schema = dict[str, str]
"""Each table, index and trigger by its kind and name, with how it was made."""


def read(connection: Connection) -> Schema:
    """Read what a database has; the indexes of UNIQUE constraints have no words of their own."""
    return {
        f"{kind} {name} of {table}": _normalised(sql or "automatic")
        for kind, name, table, sql in connection.exec_driver_sql(_MASTER)
    }


@cache
def expected() -> Schema:
    """Make an empty database of the models in memory, once, and read what it has."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        made = read(connection)
    engine.dispose()
    return made


def differences(connection: Connection) -> list[str]:
    """Name what is missing, what is another, and every trigger that nobody of ours made: it can change any write."""
    found, wanted = read(connection), expected()
    changed = [name for name in sorted(wanted.keys() & found.keys()) if found[name] != wanted[name]]
    strangers = [name for name in sorted(found.keys() - wanted.keys()) if name.startswith("trigger ")]
    return [
        *(f"{name} is missing" for name in sorted(wanted.keys() - found.keys())),
        *(f"{name} is not as it was made" for name in changed),
        *(f"{name} was made by somebody else" for name in strangers),
    ]


def _normalised(sql: str) -> str:
    """One way to write it: no quotes around names, single spaces, none around brackets and commas."""
    words = re.sub(r"\s+", " ", sql.replace('"', "")).strip()
    return re.sub(r" ?([(),=<>]+) ?", r"\1", words)
