"""The ids of traces and root spans, derived from request ids, so that no process has to tell them to another."""

import re
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)(?:[0-9a-fA-F]{4}\1){3}[0-9a-fA-F]{12}")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SPAN_BITS = (1 << 64) - 1


class Caller(NamedTuple):
    """The span of a caller, as its `traceparent` names it."""

    trace_id: int
    span_id: int
    flags: int


def trace_id_of(request_id: str) -> int:
    """Return the trace id of a request: the 16 bytes of its id if that is a UUID, otherwise bytes of its hash.

    The hash also replaces a UUID whose bytes OpenTelemetry does not accept as ids, such as one of zeros.
    """
    if _UUID.fullmatch(request_id):
        trace_id = UUID(request_id).int
        if root_id_of(trace_id):
            return trace_id
    return int.from_bytes(sha256(request_id.encode()).digest()[:16])


def root_id_of(trace_id: int) -> int:
    """Return the id of a trace's root span: the low 8 bytes of the trace id."""
    return trace_id & _SPAN_BITS


def in_hex(trace_id: int) -> str:
    """Return a trace id as backends show it: 32 hexadecimal digits."""
    return f"{trace_id:032x}"


def caller_of(traceparent: str) -> Caller | None:
    """Return the caller's span of a `traceparent` header (W3C Trace Context), or None if the header is invalid."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more):
        return None
    caller = Caller(int(trace_id, 16), int(span_id, 16), int(flags, 16))
    return caller if caller.trace_id and caller.span_id else None
