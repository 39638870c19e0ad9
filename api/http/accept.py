"""The media type of an answer, chosen from the Accept header, and the weights of headers like it."""

import re
from collections.abc import Mapping
from functools import lru_cache

_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


@lru_cache(maxsize=256)
def negotiate(accept: str, offered: tuple[str, ...]) -> str | None:
    """Choose the media type that an Accept header (RFC 9110, 12.5.1) prefers, the first of several; None if none fits.

    The most specific range that fits a type decides its weight.
    """
    if not accept:
        return offered[0]
    weights = weights_of(accept)
    liked = {media_type: _weight(media_type, weights) for media_type in offered}
    best = max(liked, key=liked.__getitem__)
    return best if liked[best] > 0 else None


@lru_cache(maxsize=256)
def weights_of(accept: str) -> Mapping[str, float]:
    """Return the weight of each name in a header like `Accept`; 1 for a name without a valid one."""
    weights: dict[str, float] = {}
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((part.removeprefix("q=") for part in parameters if part.startswith("q=")), "1")
        weights[name] = float(weight) if _WEIGHT.fullmatch(weight) else 1.0
    return weights


def _weight(media_type: str, weights: Mapping[str, float]) -> float:
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((weights[name] for name in ranges if name in weights), 0.0)
