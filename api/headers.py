"""Request headers that mean something to Giro, parsed."""

import re

from core.domain.errors import ErrorCode, Refusal
from core.domain.transfers import MAX_IDEMPOTENCY_KEY

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_WAIT = re.compile(r'wait\s*=\s*(?:"(\d+)"|(\d+))', re.IGNORECASE)


def idempotency_key(values: list[str], *, required: bool) -> str | None:
    """Read the Idempotency-Key header, given as all its values; one pair of surrounding quotes is stripped.

    Raises Refusal for a missing key that is required, for two keys, and for one with other than 1 to 255 visible
    ASCII characters.
    """
    if not values:
        if required:
            raise Refusal(ErrorCode.IDEMPOTENCY_KEY_MISSING, field="header.Idempotency-Key")
        return None
    key = values[0].strip(" \t")  # what RFC 9110 calls white space, and no more
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(values) > 1 or len(key) > MAX_IDEMPOTENCY_KEY or not _VISIBLE_ASCII.fullmatch(key):
        raise Refusal(ErrorCode.IDEMPOTENCY_KEY_INVALID, field="header.Idempotency-Key")
    return key


def preferred_wait(values: list[str], *, longest: int) -> int | None:
    """Read `wait=N` from the Prefer headers (RFC 7240): seconds, `longest` at most; None without a valid one.

    The first of several counts, as the RFC has it; what is not understood is passed over.
    """
    for preference in ",".join(values).split(","):
        found = _WAIT.fullmatch(preference.partition(";")[0].strip())
        if found:
            digits = (found[1] or found[2]).lstrip("0") or "0"
            # A number of any length is a valid one (RFC 9110, 10.2.3); Python refuses to read very long ones.
            return min(int(digits), longest) if len(digits) < 10 else longest
    return None


def etag_matches(if_none_match: list[str], etag: str) -> bool:
    """Compare the If-None-Match headers with an entity tag, weakly, as RFC 9110 (13.1.2) has it for them."""
    tags = {tag.strip().removeprefix("W/") for tag in ",".join(if_none_match).split(",")}
    return "*" in tags or etag in tags
