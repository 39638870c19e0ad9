"""`/docs`: the API reference. Its assets are served locally, so that it works without the internet."""

import mimetypes
import re
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import cast

from fastapi import APIRouter, Depends, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html

from api import openapi
from api.codes import WireError, is_answered, status_of
from api.dependencies import check_reading_rate
from api.http.pages import CACHED, Page, Pages
from core.domain.errors import ErrorCode, Refusal

ASSETS = "/docs/assets"

_FILES = {path.name: path for path in (Path(str(files("fastapi_offline"))) / "static").iterdir()}
"""Swagger UI's files by name, in the package that ships them."""

# Swagger UI draws icons from data URLs and starts from an inline script. Nothing is loaded from another host.
_POLICY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
}

_ERRORS = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Giro error codes</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font-family: system-ui, sans-serif; margin: 2rem }}
table {{ border-collapse: collapse }}
th, td {{ border-bottom: 1px solid #8884; padding: .4rem 1rem; text-align: left; vertical-align: top }}
tr:target {{ background: Mark; color: MarkText }}
</style>
<h1>Error codes</h1>
<table>
<tr><th>code<th>status<th>meaning<th>what a client should do</tr>
{rows}
</table>
</html>
"""

router = APIRouter(include_in_schema=False, dependencies=[Depends(check_reading_rate)])


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Show the API reference."""
    return _reference().answer(request)


@cache
def _reference() -> Page:
    return _page(
        get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Giro API reference",
            oauth2_redirect_url="/docs/oauth2-redirect",
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon.png",
        ).body
    )


@router.get("/docs/oauth2-redirect")
async def oauth2_redirect(request: Request) -> Response:
    """Serve the page to which Swagger UI returns after a log-in."""
    return _redirect().answer(request)


@cache
def _redirect() -> Page:
    return _page(get_swagger_ui_oauth2_redirect_html().body)


@router.get("/docs/errors")
async def errors(request: Request) -> Response:
    """Explain every error code: the `type` of a problem points here."""
    return _errors().answer(request)


@cache
def _errors() -> Page:
    rows = "\n".join(
        f'<tr id="{code}"><td><code>{code}</code></td>'
        f"<td>{status_of(code) if is_answered(code) else '—'}</td><td>{code.message}</td>"
        f"<td>{re.sub('`([^`]*)`', r'<code>\1</code>', code.advice)}</td></tr>"
        for code in ErrorCode.all()
    )
    return _page(_ERRORS.format(rows=rows).encode())


def _page(body: bytes | memoryview) -> Page:
    return Page(bytes(body), "text/html; charset=utf-8", _POLICY | CACHED)


@router.get(f"{ASSETS}/{{name:path}}")
async def asset(name: str, request: Request) -> Response:
    """Serve a file of Swagger UI."""
    path = _FILES.get(name)
    if path is None:
        raise Refusal(WireError.NOT_FOUND)
    page = await _pages_of(request).get(name, partial(_asset, path))
    return page.answer(request)


def _asset(path: Path) -> Page:
    media_type, _ = mimetypes.guess_type(path.name)
    return Page(path.read_bytes(), media_type or "application/octet-stream", CACHED)


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """Describe the API to programs."""
    page = await _pages_of(request).get("/openapi.json", partial(openapi.openapi_page, request.app))
    return page.answer(request)


def _pages_of(request: Request) -> Pages:
    return cast(Pages, request.app.state.pages)
