"""Work with a visible effect, for tests of the intake."""

from collections.abc import Callable

from sqlalchemy import Connection

from core.storage.engines import Engine
from tests import builders


def mark(text: str) -> Callable[[Connection], str]:
    """Work with a visible effect: it inserts a user of this name."""

    def work(connection: Connection) -> str:
        builders.add_user(connection, f"{text}@example.com")
        return text

    return work


def marks(database: Engine) -> list[str]:
    query = "SELECT email FROM users WHERE email LIKE '%mark%' ORDER BY id"
    return [row["email"].partition("@")[0] for row in builders.rows(database, query)]
