"""What is written down for good: who did what, to which object, when, and from where."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Action(StrEnum):
    """Everything that is written down."""

    ACCOUNT_FROZEN = "account_frozen"
    ACCOUNT_UNFROZEN = "account_unfrozen"
    BACKUP_TAKEN = "backup_taken"
    """By hand: a copy of everything is in somebody's hands."""
    BACKUP_RESTORED = "backup_restored"
    """Whatever was accepted between the backup and this entry is not in the ledger."""
    CARD_KEYS_ROTATED = "card_keys_rotated"
    CARD_REVEALED = "card_revealed"
    """Its number and CVC were shown, once, to the customer it was issued to."""
    DEAD_LETTER_DROPPED = "dead_letter_dropped"
    DEAD_LETTER_RETRIED = "dead_letter_retried"
    OVERDRAFT_LIMIT_SET = "overdraft_limit_set"
    TOKEN_KEYS_ROTATED = "token_keys_rotated"
    USER_DEACTIVATED = "user_deactivated"
    USER_ERASED = "user_erased"
    USER_REACTIVATED = "user_reactivated"
    OPERATOR_CREATED = "operator_created"
    DEPOSIT_ORDERED = "deposit_ordered"
    WITHDRAWAL_ORDERED = "withdrawal_ordered"
    LOGGED_IN = "logged_in"
    LOG_IN_FAILED = "log_in_failed"
    LOGGED_OUT = "logged_out"
    PASSWORD_CHANGED = "password_changed"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"
    """A spent token came again: somebody has copied it."""
    ACCESS_REFUSED = "access_refused"
    """Answered 403, or 401 to somebody who presented a token."""


NOBODYS = (Action.LOG_IN_FAILED, Action.REFRESH_TOKEN_REUSED, Action.ACCESS_REFUSED)
"""What may lack an author. Everything else is done by somebody who is known."""

Details = Mapping[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who acts, and from where: the row id of a user, the request's id, and the address that it came from."""

    user_id: int | None
    """None where nobody is known: see `NOBODYS`."""
    request_id: str
    address: str | None
    """None for a command on the machine itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is to be written down."""

    author: Author
    action: Action
    object_id: UUID | None = None
    """The public id of a user, an account, a transfer …; None where there is none."""
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries a list shows; None lets everything through."""

    action: Action | None = None
    author_id: UUID | None = None
    object_id: UUID | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    """Exclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditView:
    """An entry as operators read it."""

    sequence: int
    at: datetime
    author_id: UUID | None
    action: Action
    object_id: UUID | None
    details: Details = field(default_factory=dict)
    request_id: str
    address: str | None
