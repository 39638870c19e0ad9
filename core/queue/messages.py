"""The queues, and the messages that they carry."""

from typing import Any

import dramatiq

SETTLEMENT_QUEUE = "settlement"
JOBS_QUEUE = "jobs"
STATEMENTS_QUEUE = "statements"

SETTLE = "settle"
"""Name of the actor that settles pending transfers."""
BACK_UP = "back_up"
"""Actor that makes a backup if one is due."""
CLOSE_MONTHS = "close_months"
MAKE_GROUP = "make_statement_group"
"""Actor whose argument is the row id of a group."""
MAKE_STATEMENT = "make_statement"
"""Actor whose argument is the row id of a requested statement."""


def message(actor: str, queue: str, *arguments: int) -> "dramatiq.Message[Any]":
    """Make a message for an actor without importing the actor."""
    return dramatiq.Message(queue_name=queue, actor_name=actor, args=arguments, kwargs={}, options={})
