"""Dead letters: messages whose work has failed so often that an operator must look at them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from core.domain.errors import ErrorCode, Kind

MOST_ATTEMPTS = 3
"""A message is parked after this many failures in a row."""


class DeadLetterError(ErrorCode):
    """Errors about parked messages."""

    NOT_FOUND = (
        "dead_letter_not_found",
        Kind.NOT_FOUND,
        "Parked message not found.",
        "Read `GET /operator/dead-letters`: another operator may have retried or dropped it.",
    )


@dataclass(frozen=True, slots=True)
class Letter:
    """A message, identified by its content: two messages with the same content are the same letter."""

    queue: str
    actor: str
    arguments: Sequence[int] = ()

    @property
    def text(self) -> str:
        """The arguments as JSON."""
        return json.dumps(list(self.arguments))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterView:
    """A parked message as operators see it."""

    id: UUID
    sequence: int
    letter: Letter
    error: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    parked_at: datetime
