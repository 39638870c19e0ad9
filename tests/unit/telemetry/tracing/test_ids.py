"""Ids that follow from request ids, and the caller's own."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import new_id
from core.telemetry.tracing.ids import Caller, caller_of, in_hex, root_id_of, trace_id_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize("made", [new_id(), uuid4()])
def test_the_trace_id_is_the_uuid_of_the_request(made: UUID) -> None:
    assert in_hex(trace_id_of(str(made))) == made.hex
    assert root_id_of(trace_id_of(str(made))) == int(made.hex[16:], 16)


def test_all_spellings_of_a_uuid_are_one_trace() -> None:
    made = uuid4()
    assert {trace_id_of(text) for text in (str(made), str(made).upper(), made.hex)} == {made.int}


@pytest.mark.parametrize(
    "request_id",
    ["rent-of-november", "1", "0" * 32, f"{'1' * 16}{'0' * 16}", "00000000-0000-0000-0000-000000000000",
     "01932f4e8c1a-7b3d-9e5f-2a6b8c0d4e1f", "01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1"]
)  # fmt: skip
def test_other_request_ids_are_hashed(request_id: str) -> None:
    trace_id = trace_id_of(request_id)
    assert trace_id == trace_id_of(request_id)
    assert in_hex(trace_id) != request_id.replace("-", "")


def test_the_hash_is_the_same_in_every_version() -> None:
    assert in_hex(trace_id_of("rent-of-november")) == "817bda37273f4a5fdf1b6796301d104c"


@given(st.text("0123456789abcdefABCDEF-._:", min_size=1, max_size=40))
def test_every_request_id_has_valid_ids(request_id: str) -> None:
    trace_id = trace_id_of(request_id)
    assert 0 < trace_id < 2**128
    assert 0 < root_id_of(trace_id) < 2**64


@pytest.mark.parametrize(
    ("traceparent", "flags"),
    [(f"00-{TRACE}-{SPAN}-01", 1), (f"00-{TRACE}-{SPAN}-00", 0), (f"cc-{TRACE}-{SPAN}-03-of.the.future", 3)],
)
def test_a_valid_traceparent_names_the_callers_span(traceparent: str, flags: int) -> None:
    assert caller_of(traceparent) == Caller(int(TRACE, 16), int(SPAN, 16), flags)


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "garbage",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
    ],
)
def test_an_invalid_traceparent_is_ignored(traceparent: str) -> None:
    assert caller_of(traceparent) is None
