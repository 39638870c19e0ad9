"""Error codes: each capability declares its own, and the base class gathers them."""

import pytest

from api.codes import status_of
from core.domain.batches import BatchError
from core.domain.cards import CardError
from core.domain.errors import ErrorCode, Kind, Refusal


def test_a_code_is_found_by_its_stored_text() -> None:
    assert ErrorCode.of("batch_failed") is BatchError.FAILED
    with pytest.raises(KeyError):
        ErrorCode.of("unheard_of")


def test_a_code_carries_its_message_and_its_kind_gives_its_status() -> None:
    assert (Refusal(CardError.TOO_MANY).detail, status_of(CardError.TOO_MANY)) == (CardError.TOO_MANY.message, 409)


def test_a_code_cannot_be_declared_twice() -> None:
    with pytest.raises(ValueError, match="declared twice"):

        class _Again(ErrorCode):
            FAILED = "batch_failed", Kind.CONFLICT, "The batch failed again.", "Try again."

    assert ErrorCode.of("batch_failed") is BatchError.FAILED
