"""The diagrams of state machines in docs/reference/statuses.md match the tables in the code."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import pytest

import core
from core.domain import accounts, cards, transfers

STATUSES = Path(core.__file__).parent.parent / "docs" / "reference" / "statuses.md"


def drawing(start: str, transitions: Mapping[StrEnum, Mapping[StrEnum, str]]) -> str:
    """Return the diagram of a state machine: its start, every transition with its cause, and its ends."""
    first = next(iter(transitions))
    moves = [f"    {before} --> {after}: {why}" for before, row in transitions.items() for after, why in row.items()]
    ends = [f"    {status} --> [*]" for status, row in transitions.items() if not row]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {first}: {start}", *moves, *ends, "```"])


MACHINES = {
    "transfer": drawing("accepted", transfers.TRANSITIONS),
    "account": drawing("opened", accounts.TRANSITIONS),
    "card": drawing("issued", cards.TRANSITIONS),
}


@pytest.mark.parametrize("noun", MACHINES)
def test_diagram_matches_the_table(noun: str) -> None:
    assert MACHINES[noun] in STATUSES.read_text(), MACHINES[noun]
