"""Access for web pages of other origins (CORS, the Fetch standard). By default they have no access."""

from collections.abc import Sequence
from typing import Any

METHODS = ("GET", "HEAD", "POST", "PUT")
"""The methods that routes accept. A test compares them with the routes."""

REQUEST_HEADERS = ("Authorization", "Idempotency-Key", "If-None-Match", "Prefer", "X-Request-ID")
ANSWER_HEADERS = (
    "Content-Disposition",
    "ETag",
    "Idempotent-Replayed",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Client-Request-ID",
    "X-Request-ID",
)
"""The headers that a page may read of an answer."""

PREFLIGHT_SECONDS = 600


def options(origins: Sequence[str]) -> dict[str, Any]:
    """Return the options of Starlette's middleware for exact origins.

    Credentials are off: callers are identified by a token that the page sends itself, and never by a cookie.
    """
    return {
        "allow_origins": origins,
        "allow_methods": METHODS,
        "allow_headers": REQUEST_HEADERS,
        "allow_credentials": False,
        "expose_headers": ANSWER_HEADERS,
        "max_age": PREFLIGHT_SECONDS,
    }
