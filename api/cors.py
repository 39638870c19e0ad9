"""What pages of other origins may do from a browser (CORS, the Fetch standard); by default nothing."""

from collections.abc import Sequence
from typing import Any

METHODS = ("GET", "HEAD", "POST", "PUT")
"""Those that a route takes; a test holds them to the routes."""

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
    "X-Request-ID",
)
"""What a page may read of an answer besides its body."""

PREFLIGHT_SECONDS = 600


def options(origins: Sequence[str]) -> dict[str, Any]:
    """Give the options of Starlette's middleware for exact origins.

    Without credentials: who asks is told by a token that the page has to send itself, and never by a cookie.
    """
    return {
        "allow_origins": origins,
        "allow_methods": METHODS,
        "allow_headers": REQUEST_HEADERS,
        "allow_credentials": False,
        "expose_headers": ANSWER_HEADERS,
        "max_age": PREFLIGHT_SECONDS,
    }
