"""`/docs`: the API reference. Its assets are served locally, so that it works without the internet."""

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Depends, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from api.codes import is_answered, status_of
from api.dependencies import check_reading_rate
from api.openapi import openapi_json
from core.domain.errors import ErrorCode

ASSETS = "/docs/assets"

_FILES = StaticFiles(directory=Path(str(files("fastapi_offline"))) / "static")
"""Swagger UI's files, in the package that ships them."""

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
async def docs() -> HTMLResponse:
    """Show the API reference."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Giro API reference",
        oauth2_redirect_url="/docs/oauth2-redirect",
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
    )
    return HTMLResponse(page.body, headers=_POLICY)


@router.get("/docs/oauth2-redirect")
async def oauth2_redirect() -> HTMLResponse:
    """Serve the page to which Swagger UI returns after a log-in."""
    return HTMLResponse(get_swagger_ui_oauth2_redirect_html().body, headers=_POLICY)


@router.get("/docs/errors")
async def errors() -> HTMLResponse:
    """Explain every error code: the `type` of a problem points here."""
    return HTMLResponse(_errors(), headers=_POLICY)


@cache
def _errors() -> str:
    rows = "\n".join(
        f'<tr id="{code}"><td><code>{code}</code></td>'
        f"<td>{status_of(code) if is_answered(code) else '—'}</td><td>{code.message}</td>"
        f"<td>{re.sub('`([^`]*)`', r'<code>\1</code>', code.advice)}</td></tr>"
        for code in ErrorCode.all()
    )
    return _ERRORS.format(rows=rows)


@router.get(f"{ASSETS}/{{name:path}}")
async def asset(name: str, request: Request) -> Response:
    """Serve a file of Swagger UI."""
    return await _FILES.get_response(name, request.scope)


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """Describe the API to programs."""
    return Response(await openapi_json(request.app), media_type="application/json")
