"""Heads that are refused whatever the request asks for, because servers and proxies read them differently."""

import re
from typing import NamedTuple

from starlette.types import Scope

from api.codes import WireError
from core.domain.errors import ErrorCode

_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")
"""A host and a port (RFC 9110, section 7.2). The host may be empty."""

_CHECKED = frozenset({b"host", b"content-encoding", b"te", b"transfer-encoding"})


class Fault(NamedTuple):
    """Why a head is refused. Without a detail, the code's own message is enough."""

    code: ErrorCode
    detail: str | None = None


_ONE_HOST = Fault(WireError.MALFORMED_REQUEST, "The request needs exactly one Host header.")
_BAD_HOST = Fault(
    WireError.MALFORMED_REQUEST, "The Host header is not a host name or an address, with or without port."
)
_CONTENT = Fault(WireError.UNSUPPORTED_CONTENT_ENCODING)
_TRANSFER = Fault(WireError.UNSUPPORTED_TRANSFER_CODING)


def fault_of(scope: Scope) -> Fault | None:
    """Return why a request's head is refused, or None.

    HTTP/1.1 needs one Host (RFC 9112, section 3.2). HTTP/1.0 knows none, so it may be missing there: health checks of
    load balancers use it. An authority in the request line is ignored like Host, because no answer depends on either.
    """
    hosts = 0
    for name, value in scope["headers"]:
        if name not in _CHECKED:
            continue
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value):
                return _BAD_HOST
        elif name == b"content-encoding":
            if not _words(value) <= {b"", b"identity"}:
                return _CONTENT
        elif not _words(value) <= ({b"", b"trailers"} if name == b"te" else {b"chunked"}):
            return _TRANSFER
    return None if hosts == 1 or (hosts == 0 and scope["http_version"] == "1.0") else _ONE_HOST


def _words(value: bytes) -> set[bytes]:
    return {word.strip() for word in value.lower().split(b",")}
