"""`/`: a greeting, as JSON for programs and as a page for browsers."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response

from api.dependencies import PageTypeDep, RuntimeDep
from api.http.checks import HTML_TYPE, JSON_TYPE, CheckedRoute
from api.http.pages import Page
from api.schemas.health import Message
from api.schemas.problems import header, problems
from core.domain.errors import CommonError

router = APIRouter(tags=["service"], route_class=CheckedRoute)

_PAGE = Path(__file__).with_name("home.html").read_text(encoding="utf-8")
_WITHOUT_REFERENCE = re.sub(r"<!--reference-->.*<!--/reference-->\n", "", _PAGE, flags=re.DOTALL)
"""The page of a service whose setting `docs` is off."""


def _digest(page: str) -> str:
    """Return the digest of a page's only style, for its policy."""
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    return b64encode(sha256(style.encode()).digest()).decode()


_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_digest(_PAGE)}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}

_GREETING = Message(message="Banking REST Service API is running")
_JSON = Page(_GREETING.model_dump_json().encode(), JSON_TYPE, vary=("Accept",))
_HTML, _HTML_WITHOUT_REFERENCE = (
    Page(page.encode(), f"{HTML_TYPE}; charset=utf-8", _HEADERS, vary=("Accept",))
    for page in (_PAGE, _WITHOUT_REFERENCE)
)

_VERSION = {"ETag": header("Names this answer, for `If-None-Match`.", '"9f86d081884c7d659a2feaa0c55ad015"')}

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": _VERSION | {"Vary": header("The format depends on `Accept`.", "Accept, Accept-Encoding")},
        "content": {HTML_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    },
    304: {"description": "The answer is the one that `If-None-Match` names.", "headers": _VERSION},
    **problems(CommonError.RATE_LIMITED),
}


@router.get(
    "/",
    response_model=Message,
    summary="Confirm that the API is running",
    response_description="The API is running.",
    responses=_ANSWERS,
)
async def greet(request: Request, media_type: PageTypeDep, runtime: RuntimeDep) -> Response:
    """Answer with a fixed text, or with a page for browsers. It reads nothing, so it shows only that the API runs."""
    page = _HTML if runtime.settings.docs else _HTML_WITHOUT_REFERENCE
    return (page if media_type == HTML_TYPE else _JSON).answer(request)
