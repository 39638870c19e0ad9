"""Operators who act on the machine itself, and must show who they are: a shell alone is one person, not two."""

from dataclasses import replace

from core.domain.audit import Action, Author
from core.domain.users import Role
from core.security.passwords import Passwords
from core.services.audit import write_down
from core.services.identity.emails import looked_up
from core.storage import users
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work


class NotAnOperator(Exception):
    """No active operator has this address and this password. The message is one line and names neither."""


def identify(database: Engine, passwords: Passwords, author: Author, *, email: str, password: str) -> Author:
    """Return the operator with this address and this password, as the author of what follows.

    Raises NotAnOperator without one, and records that as a failed log-in. Hashing is slow: not inside a unit of work.
    """
    with database.reading() as connection:
        public_id = users.find_by_email(connection, looked_up(email))
        found = users.find(connection, public_id) if public_id else None
    known = found if found is not None and found.role is Role.OPERATOR and found.is_active else None
    matches = passwords.verify(password, known.password_hash if known else None)
    if known is None or not matches:
        with unit_of_work(database) as connection:
            write_down(
                connection, replace(author, user_id=None), Action.LOG_IN_FAILED, found.public_id if found else None
            )
        raise NotAnOperator("no active operator has this address and this password")
    return replace(author, user_id=known.id)
