"""All sessions at once: a restore ends them, and keeps out the users who lost access after the backup was made."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from core.clock import now_us, to_us
from core.domain.audit import Action, Author
from core.files import exclusions
from core.services.identity.operators import deactivate
from core.storage import audit, tokens, users
from core.storage.engines import Engine


@dataclass(frozen=True, slots=True)
class Ended:
    """What a restore ended."""

    users: int
    """Users whose access tokens ended."""
    refresh_tokens: int
    """Refresh tokens that were deleted."""
    excluded: int
    """Users who had access in the backup, and lost it later."""
    warnings: list[str] = field(default_factory=list)


def end_all(connection: Connection, author: Author, listed: Path, copies: Sequence[Path]) -> Ended:
    """End all sessions, and deactivate again the users on the lists of excluded users.

    `listed` is the list of this data folder, and `copies` are other copies of it. Without this, a restore would bring
    back sessions that were ended after the backup. A session may also be newer than the backup and name the version
    that comes next, so versions continue from the present time: nobody ends sessions a million times a second.
    """
    excluded, warnings = 0, []
    for path in exclusions.newest_of((listed, *copies)):
        found = exclusions.read(path)
        if found.unreadable:
            warnings.append(f"{path} has {found.unreadable} lines that name no user")
        for user_id in found.users:
            user = users.find(connection, user_id)
            if user is not None and user.is_active:
                deactivate(connection, author, listed, user_id)
                excluded += 1
    ended = users.end_all_tokens(connection, now_us())
    return Ended(ended, tokens.forget_all(connection), excluded, warnings)


def last_restore(database: Engine) -> int:
    """Return when a backup was last restored, in microseconds since the epoch; 0 if never."""
    with database.reading() as connection:
        restored_at = audit.newest_of(connection, Action.BACKUP_RESTORED)
    return 0 if restored_at is None else to_us(restored_at)
