"""`/`: a greeting, as JSON for programs and as a page for browsers."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from api.dependencies import PageTypeDep, RuntimeDep
from api.http.checks import HTML_TYPE, CheckedRoute
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
    "Vary": "Accept",
}

_ANSWERS = {
    200: {
        "headers": {"Vary": header("The format depends on `Accept`.", "Accept")},
        "content": {HTML_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    },
    **problems(CommonError.RATE_LIMITED),
}


@router.get(
    "/",
    response_model=Message,
    summary="Confirm that the API is running",
    response_description="The API is running.",
    responses=_ANSWERS,
)
async def greet(response: Response, media_type: PageTypeDep, runtime: RuntimeDep) -> Message | Response:
    """Answer with a fixed text, or with a page for browsers. It reads nothing, so it shows only that the API runs."""
    if media_type == HTML_TYPE:
        return HTMLResponse(_PAGE if runtime.settings.docs else _WITHOUT_REFERENCE, headers=_HEADERS)
    response.headers["Vary"] = "Accept"
    return Message(message="Banking REST Service API is running")
