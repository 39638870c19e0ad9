"""What a dead letter is: a message whose work has failed so often that a person must look."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

MOST_ATTEMPTS = 3
"""Failures in a row after which a message is parked."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message by what it asks for: two with the same content are one."""

    queue: str
    actor: str
    arguments: Sequence[int] = ()

    @property
    def text(self) -> str:
        """Its arguments as JSON."""
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
