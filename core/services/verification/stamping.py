"""Stamping: an authority outside the bank signs when the newest anchor existed. The answers are kept beside it.

An anchor fixes all earlier blocks, so only the newest one is stamped. After a failure the next run tries again.
"""

import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from core.files import append_only, durable
from core.security import time_stamps
from core.security.time_stamps import LARGEST_ANSWER, MEDIA_TYPE, NotStamped
from core.services.verification.anchoring import last_anchor

SECONDS = 20


def stamps_of(anchors: Path) -> Path:
    """Return the folder of the stamps of an anchor file."""
    return anchors.with_name(f"{anchors.name}.stamps")


def stamp_last(anchors: Path, url: str) -> Path | None:
    """Let an authority stamp the last anchor, and return the new file; None if it is stamped, or there is no anchor.

    The file has the time of the anchor (µs) and its height in its name, and the answer of the authority as its content.
    Raises NotStamped if the authority does not, and OSError if the answer cannot be kept.
    """
    anchor, line = last_anchor(anchors), append_only.last(anchors)
    if anchor is None or line is None:
        return None
    folder = stamps_of(anchors)
    path = folder / f"{anchor.anchored_at}-{anchor.height}.tsr"
    if path.exists():
        return None
    answer = _ask(url, line.encode())
    folder.mkdir(mode=0o700, exist_ok=True)
    durable.create(path, answer)
    return path


def unstamped_seconds(anchors: Path) -> float:
    """Return how much newer the last anchor is than the last stamped one. Without a stamp, it counts from 1970."""
    anchor = last_anchor(anchors)
    times = [int(path.name.partition("-")[0]) for path in stamps_of(anchors).glob("*-*.tsr")]
    return 0.0 if anchor is None else max(anchor.anchored_at - max(times, default=0), 0) / 1e6


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect: the answer counts as an error."""


_authority = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())
"""Ignores proxies in the environment, and follows no redirects."""


def _ask(url: str, content: bytes) -> bytes:
    query, nonce = time_stamps.request(content)
    request = urllib.request.Request(url, query, {"Content-Type": MEDIA_TYPE})  # noqa: S310 (the setting allows http only)
    try:
        with _authority.open(request, timeout=SECONDS) as response:
            answer: bytes = response.read(LARGEST_ANSWER)
    except (OSError, HTTPException, ValueError) as error:
        raise NotStamped(f"the authority does not answer: {error}") from None
    time_stamps.require_stamp(answer, content, nonce)
    return answer
