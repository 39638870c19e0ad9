"""What operators do, as it is written down for good."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Action(StrEnum):
    """Every act that is written down."""

    ACCOUNT_FROZEN = "account_frozen"
    ACCOUNT_UNFROZEN = "account_unfrozen"
    OVERDRAFT_LIMIT_SET = "overdraft_limit_set"
    USER_DEACTIVATED = "user_deactivated"
    USER_REACTIVATED = "user_reactivated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who acts, and from where: the row id of a user, the request's id, and the address that it came from."""

    user_id: int
    request_id: str
    address: str | None
    """None for a command on the machine itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditView:
    """An act as operators read it."""

    sequence: int
    at: datetime
    author_id: UUID
    action: Action
    object_id: UUID
    details: dict[str, str | int] = field(default_factory=dict)
    request_id: str
    address: str | None
