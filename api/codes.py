"""The codes of errors that only HTTP knows, and the HTTP status of every code."""

from core.domain.errors import ErrorCode, Kind


class WireError(ErrorCode):
    """Errors of HTTP itself."""

    BODY_TOO_LARGE = "body_too_large", None, "The body is too large for this call.", "Send a smaller body."
    HEADERS_TOO_LARGE = "headers_too_large", None, "The headers are too large.", "Send smaller headers."
    MALFORMED_BODY = "malformed_body", None, "The body is not a single well-formed JSON value.", "Fix the program."
    MALFORMED_REQUEST = (
        "malformed_request",
        None,
        "This is not a well-formed HTTP/1.1 request.",
        "Fix the program or the proxy.",
    )
    METHOD_NOT_ALLOWED = (
        "method_not_allowed",
        None,
        "Method not allowed on this path.",
        "Use a method that `Allow` names.",
    )
    NOT_ACCEPTABLE = (
        "not_acceptable",
        None,
        "This call cannot answer with a media type that the Accept header allows.",
        "Accept `application/json`.",
    )
    NOT_FOUND = "not_found", None, "Route not found.", "Check the URL."
    REQUEST_TIMEOUT = "request_timeout", None, "The request did not arrive in time.", "Send the request again, faster."
    UNSUPPORTED_CONTENT_ENCODING = (
        "unsupported_content_encoding",
        None,
        "This service accepts no compressed or otherwise encoded bodies.",
        "Send the body without `Content-Encoding`.",
    )
    UNSUPPORTED_MEDIA_TYPE = (
        "unsupported_media_type",
        None,
        "This call does not accept the body's media type.",
        "Send `application/json` (a form for `POST /login`).",
    )
    UNSUPPORTED_TRANSFER_CODING = (
        "unsupported_transfer_coding",
        None,
        "`TE` may name `trailers` only, and `Transfer-Encoding` may name `chunked` only.",
        "Send the request without other transfer codings.",
    )
    URI_TOO_LONG = "uri_too_long", None, "The path and the query are too long.", "Send a shorter URL."


_OF_KINDS = {
    Kind.CONFLICT: 409,
    Kind.FORBIDDEN: 403,
    Kind.INTERNAL: 500,
    Kind.INVALID: 422,
    Kind.NOT_FOUND: 404,
    Kind.REFUSED: 400,
    Kind.TOO_MANY: 429,
    Kind.UNAUTHENTICATED: 401,
    Kind.UNAVAILABLE: 503,
}

_OF_WIRE_ERRORS: dict[ErrorCode, int] = {
    WireError.BODY_TOO_LARGE: 413,
    WireError.HEADERS_TOO_LARGE: 431,
    WireError.MALFORMED_BODY: 400,
    WireError.MALFORMED_REQUEST: 400,
    WireError.METHOD_NOT_ALLOWED: 405,
    WireError.NOT_ACCEPTABLE: 406,
    WireError.NOT_FOUND: 404,
    WireError.REQUEST_TIMEOUT: 408,
    WireError.UNSUPPORTED_CONTENT_ENCODING: 415,
    WireError.UNSUPPORTED_MEDIA_TYPE: 415,
    WireError.UNSUPPORTED_TRANSFER_CODING: 400,
    WireError.URI_TOO_LONG: 414,
}


def status_of(code: ErrorCode) -> int:
    """Return the HTTP status of a code. Raises KeyError for a code that is only the reason of a failed transfer."""
    return _OF_WIRE_ERRORS[code] if code.kind is None else _OF_KINDS[code.kind]


def is_answered(code: ErrorCode) -> bool:
    """Return whether a call can be answered with a code. The other codes are reasons of failed transfers only."""
    return code.kind is not None or code in _OF_WIRE_ERRORS
