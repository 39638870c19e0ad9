"""`/docs`: the reference for people, which works without the internet."""

import asyncio
import json
import re
import threading
import time
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi import FastAPI

from api import openapi
from api.codes import is_answered, status_of
from api.http.pages import Page
from core.domain.errors import ErrorCode
from tests.api.conftest import Api, Start, refused

PAGES = ["/docs", "/docs/oauth2-redirect", "/docs/errors"]


class Links(HTMLParser):
    """The resources that a page loads: scripts, styles, icons, pictures."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]


async def test_the_reference_loads_all_resources_from_this_service(api: Api) -> None:
    page = (await api.client.get("/docs")).text
    links = Links(page).found
    assert any(link.endswith(".js") for link in links)
    assert any(link.endswith(".css") for link in links)
    for link in [*links, "/openapi.json", "/docs/oauth2-redirect"]:
        assert link.startswith("/"), link
        assert not link.startswith("//"), link
        assert (await api.client.get(link)).status_code == 200, link
    assert "url: '/openapi.json'" in page


@pytest.mark.parametrize("path", PAGES)
async def test_no_page_names_another_host(api: Api, path: str) -> None:
    page = (await api.client.get(path)).text
    assert not re.search(r"(?:https?:)?//[\w.-]+\.\w+", page)


@pytest.mark.parametrize("path", PAGES)
async def test_the_policy_of_each_page_allows_no_other_source(api: Api, path: str) -> None:
    answer = await api.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    allowed = {"'self'", "'none'", "data:", "'unsafe-inline'"}
    for directive, sources in policy.items():
        assert set(sources.split()) <= allowed, directive


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("swagger-ui-bundle.js", "text/javascript"), ("swagger-ui.css", "text/css"), ("favicon.png", "image/png")],
)
async def test_the_assets_have_their_content_types(api: Api, name: str, media_type: str) -> None:
    answer = await api.client.get(f"/docs/assets/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.content) > 500
    again = await api.client.get(f"/docs/assets/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_the_document_is_serialised_once_for_any_number_of_reads(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serialising hundreds of kilobytes delays all requests, and a client needs no token for the document."""
    first = await api.client.get("/openapi.json")
    lengths: list[int] = []
    dumps = json.dumps

    def watched(*what: Any, **how: Any) -> str:
        text = dumps(*what, **how)
        lengths.append(len(text))
        return text

    monkeypatch.setattr(json, "dumps", watched)
    again = await api.client.get("/openapi.json")
    assert (again.status_code, again.content) == (200, first.content)
    assert len(first.content) > 100_000
    assert max(lengths, default=0) < 10_000


async def test_the_document_is_made_once_and_in_a_thread(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making it takes hundreds of milliseconds, in which the event loop must serve other requests."""
    threads: list[threading.Thread] = []
    make = openapi.openapi

    def watched(app: FastAPI) -> dict[str, Any]:
        threads.append(threading.current_thread())
        time.sleep(0.1)  # long enough for the second request to arrive
        return make(app)

    monkeypatch.setattr(openapi, "openapi", watched)
    first, second = await asyncio.gather(api.client.get("/openapi.json"), api.client.get("/openapi.json"))
    assert (first.status_code, second.content) == (200, first.content)
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


async def test_a_client_that_leaves_does_not_stop_the_making(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    made, make = [], openapi.openapi

    def watched(app: FastAPI) -> dict[str, Any]:
        time.sleep(0.05)
        made.append(make(app))
        return made[-1]

    monkeypatch.setattr(openapi, "openapi", watched)
    request = asyncio.ensure_future(api.client.get("/openapi.json"))
    await asyncio.sleep(0.01)
    request.cancel()
    assert (await api.client.get("/openapi.json")).status_code == 200
    assert len(made) == 1


async def test_an_error_of_the_making_is_not_kept(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_app: FastAPI) -> Page:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(openapi, "openapi_page", broken)
        refused(await api.client.get("/openapi.json"), 500, "internal_error")
    assert (await api.client.get("/openapi.json")).status_code == 200


async def test_a_missing_asset_is_a_missing_route(api: Api) -> None:
    for name in ("none.css", "", "../swagger-ui.css", "%2e%2e/app.py", "static/swagger-ui.css"):
        refused(await api.client.get(f"/docs/assets/{name}"), 404, "not_found")


ALL = [*PAGES, "/", "/openapi.json", "/docs/assets/swagger-ui.css", "/docs/assets/favicon.png"]
INCOMPRESSIBLE = ["/", "/docs/assets/favicon.png"]


class TestEveryPage:
    @pytest.mark.parametrize("path", ALL)
    async def test_is_not_sent_again_to_a_client_that_has_it(self, api: Api, path: str) -> None:
        first = await api.client.get(path)
        etag = first.headers["etag"]
        assert re.fullmatch(r'"[0-9a-f]{32}(-gzip)?"', etag), "a strong tag"
        for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            again = await api.client.get(path, headers={"If-None-Match": given})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
            for name in ("cache-control", "vary"):
                assert again.headers[name] == first.headers[name]
        assert (await api.client.get(path, headers={"If-None-Match": '"other"'})).status_code == 200

    @pytest.mark.parametrize("path", [path for path in ALL if path not in INCOMPRESSIBLE])
    async def test_is_compressed_for_clients_that_accept_it(self, api: Api, path: str) -> None:
        plain = await api.client.get(path, headers={"Accept-Encoding": "identity"})
        packed = await api.client.get(path, headers={"Accept-Encoding": "gzip"})
        assert packed.content == plain.content
        assert (plain.headers.get("content-encoding"), packed.headers["content-encoding"]) == (None, "gzip")
        assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
        assert packed.headers["etag"] != plain.headers["etag"], "other bytes have another tag"
        for answer in (plain, packed):
            assert "Accept-Encoding" in answer.headers["vary"]
        changed = await api.client.get(
            path, headers={"Accept-Encoding": "gzip", "If-None-Match": plain.headers["etag"]}
        )
        assert changed.status_code == 200

    @pytest.mark.parametrize("path", INCOMPRESSIBLE)
    async def test_is_not_compressed_if_that_would_make_it_longer(self, api: Api, path: str) -> None:
        answer = await api.client.get(path, headers={"Accept": "application/json", "Accept-Encoding": "gzip"})
        assert (answer.status_code, "content-encoding" in answer.headers) == (200, False)

    async def test_is_made_and_compressed_only_once(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        for path in ALL:
            await api.client.get(path)
        monkeypatch.setattr("api.http.pages.gzip.compress", None)
        monkeypatch.setattr("api.http.pages.blake2b", None)
        for path in ALL:
            assert (await api.client.get(path)).status_code == 200

    @pytest.mark.parametrize(
        ("accepted", "is_compressed"),
        [
            ("gzip", True),
            ("GZIP", True),
            ("br, gzip;q=0.1", True),
            ("*", True),
            ("gzip;q=0", False),
            ("gzip;q=0.000, *", False),
            ("*;q=0", False),
            ("identity", False),
            ("identity;q=1, gzip;q=0.5", False),
            ("br", False),
            ("", False),
        ],
    )
    async def test_is_compressed_as_the_client_weighs_it(self, api: Api, accepted: str, is_compressed: bool) -> None:
        answer = await api.client.get("/docs/errors", headers={"Accept-Encoding": accepted})
        assert ("content-encoding" in answer.headers) == is_compressed


@pytest.mark.parametrize(
    ("path", "title"),
    [("/docs", "Giro API reference"), ("/docs/errors", "Giro error codes")],
)
async def test_every_page_has_its_title(api: Api, path: str, title: str) -> None:
    assert f"<title>{title}</title>" in (await api.client.get(path)).text


async def test_every_code_is_explained_at_the_type_of_its_problem(api: Api) -> None:
    page = (await api.client.get("/docs/errors")).text
    for code in ErrorCode.all():
        row = re.search(rf'<tr id="{code}">(.*?)</tr>', page)
        assert row, code
        assert f"<code>{code}</code>" in row[1]
        assert f"<td>{status_of(code) if is_answered(code) else '—'}</td>" in row[1]
        assert code.message in row[1]
        assert re.sub("</?code>", "`", row[1]).endswith(f"<td>{code.advice}</td>")
    problem = (await api.client.get("/nothing")).json()
    path, _, anchor = problem["type"].partition("#")
    assert path == "/docs/errors"
    assert f'id="{anchor}"' in page


async def test_a_setting_turns_only_the_reference_off(start: Start) -> None:
    async with start(docs=False) as api:
        for path in (*PAGES, "/openapi.json", "/docs/assets/swagger-ui.css", "/redoc"):
            refused(await api.client.get(path), 404, "not_found")
        assert (await api.client.get("/")).status_code == 200
        refused(await api.client.put("/transfers"), 405, "method_not_allowed")
