"""Parsing of the request headers that Giro uses."""

import re

from core.domain.errors import Part, Refusal
from core.domain.transfers import MAX_IDEMPOTENCY_KEY, TransferError

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_WAIT = re.compile(r'wait\s*=\s*(?:"(\d+)"|(\d+))', re.IGNORECASE)


def idempotency_key(values: list[str], *, required: bool) -> str | None:
    """Read the idempotency key from all values of its header; one pair of surrounding quotes is removed.

    Raises Refusal if a required key is missing, if there are two keys, or if the key is not 1 to 255 visible ASCII
    characters.
    """
    if not values:
        if required:
            raise Refusal(TransferError.KEY_MISSING, about=Part.IDEMPOTENCY_KEY)
        return None
    key = values[0].strip(" \t")  # only the characters that RFC 9110 calls white space
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(values) > 1 or len(key) > MAX_IDEMPOTENCY_KEY or not _VISIBLE_ASCII.fullmatch(key):
        raise Refusal(TransferError.KEY_INVALID, about=Part.IDEMPOTENCY_KEY)
    return key


def preferred_wait(values: list[str], *, longest: int) -> int | None:
    """Read `wait=N` from the Prefer headers (RFC 7240), in seconds, at most `longest`; None without a valid value.

    The first of several counts, as the RFC requires. Unknown preferences are ignored.
    """
    for preference in ",".join(values).split(","):
        found = _WAIT.fullmatch(preference.partition(";")[0].strip())
        if found:
            digits = (found[1] or found[2]).lstrip("0") or "0"
            # A number of any length is valid (RFC 9110, 10.2.3), but Python refuses to parse very long ones.
            return min(int(digits), longest) if len(digits) < 10 else longest
    return None


def etag_matches(if_none_match: list[str], etag: str) -> bool:
    """Compare the If-None-Match headers with an entity tag, by the weak comparison that RFC 9110 (13.1.2) requires."""
    tags = {tag.strip().removeprefix("W/") for tag in ",".join(if_none_match).split(",")}
    return "*" in tags or etag in tags
