"""The audit log: who did what, to which object, when, and from where. Entries are permanent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Action(StrEnum):
    """Every act that the audit log records."""

    ACCOUNT_FROZEN = "account_frozen"
    ACCOUNT_PAID_OUT = "account_paid_out"
    """The rest of an account's money was sent away, because its owner will be erased."""
    ACCOUNT_UNFROZEN = "account_unfrozen"
    AUDIT_BUNDLE_MADE = "audit_bundle_made"
    """A person now has a copy of the month's transfers."""
    BACKUP_TAKEN = "backup_taken"
    """A backup made by hand: a person now has a copy of all data."""
    BACKUP_RESTORED = "backup_restored"
    """Transfers accepted between the backup and this entry are not in the ledger."""
    CARD_KEYS_ROTATED = "card_keys_rotated"
    CARD_REVEALED = "card_revealed"
    """The card's number and CVC were shown once, to the customer that it was issued to."""
    CLOCK_ACCEPTED = "clock_accepted"
    """An operator confirmed the wall clock after a jump. Months are closed and things expire by it again."""
    DEAD_LETTER_DROPPED = "dead_letter_dropped"
    DEAD_LETTER_RETRIED = "dead_letter_retried"
    ACCOUNT_ISOLATED = "account_isolated"
    LEDGER_ISOLATED = "ledger_isolated"
    """After a breach, the accounts that it concerns are set apart, and the others go on."""
    LEDGER_ISOLATION_ENDED = "ledger_isolation_ended"
    LEDGER_RESEAL_PROPOSED = "ledger_reseal_proposed"
    LEDGER_RESEALED = "ledger_resealed"
    """A scar replaces the trust in blocks after a breach."""
    OVERDRAFT_LIMIT_SET = "overdraft_limit_set"
    PENDING_LIMIT_SET = "pending_limit_set"
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
    """A refresh token was presented a second time, so it has been copied."""
    PAYEES_GUESSED = "payees_guessed"
    """Transfers of a customer named many payees that are unknown or cannot receive."""
    ACCESS_REFUSED = "access_refused"
    """A request was answered 403, or 401 although it presented a token."""

    @property
    def may_lack_author(self) -> bool:
        """Whether the author can be unknown. Every other action has a known author."""
        return self in (Action.LOG_IN_FAILED, Action.REFRESH_TOKEN_REUSED, Action.ACCESS_REFUSED)


Details = Mapping[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """The author of an act: the row id of the user, the id of the request, and the address it came from."""

    user_id: int | None
    """None if the user is unknown: see `Action.may_lack_author`."""
    request_id: str
    address: str | None
    """None for a command that was run on the machine itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """An act to be recorded."""

    author: Author
    action: Action
    object_id: UUID | None = None
    """The public id of a user, an account, a transfer …; None if the act has no object."""
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries a list shows. A field that is None does not filter."""

    action: Action | None = None
    author_id: UUID | None = None
    object_id: UUID | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    """Exclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditView:
    """An entry as operators see it."""

    sequence: int
    at: datetime
    author_id: UUID | None
    action: Action
    object_id: UUID | None
    details: Details = field(default_factory=dict)
    request_id: str
    address: str | None
