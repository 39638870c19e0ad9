"""The queues of settlement and of jobs, and how to make a message. Jobs name their own messages."""

from typing import Any

import dramatiq

SETTLEMENT_QUEUE = "settlement"
JOBS_QUEUE = "jobs"

SETTLE = "settle"
"""Name of the actor that settles pending transfers."""


def message(actor: str, queue: str, *arguments: int) -> "dramatiq.Message[Any]":
    """Make a message for an actor without importing the actor."""
    return dramatiq.Message(queue_name=queue, actor_name=actor, args=arguments, kwargs={}, options={})
