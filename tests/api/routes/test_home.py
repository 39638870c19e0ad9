"""`/`: JSON for programs, a page for browsers."""

import hashlib
import re
from base64 import b64encode

import httpx2
import pytest

from tests.api.conftest import Api, Start, refused

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
GREETING = b'{"message":"Banking REST Service API is running"}'


async def page(api: Api, accept: str = CHROMIUM) -> httpx2.Response:
    answer = await api.client.get("/", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    return answer


@pytest.mark.parametrize(
    "headers", [{}, {"Accept": "*/*"}, {"Accept": "application/json"}, {"Accept": "application/json, text/html"}]
)
async def test_programs_get_json(api: Api, headers: dict[str, str]) -> None:
    answer = await api.client.get("/", headers=headers)
    assert (answer.status_code, answer.content) == (200, GREETING)
    assert (answer.headers["content-type"], answer.headers["vary"]) == ("application/json", "Accept, Accept-Encoding")
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize("accept", [CHROMIUM, FIREFOX, "text/html", "text/html, application/json;q=0.9"])
async def test_browsers_get_a_page(api: Api, accept: str) -> None:
    assert "<h1>Giro</h1>" in (await page(api, accept)).text


async def test_other_media_types_are_not_acceptable(api: Api) -> None:
    refused(await api.client.get("/", headers={"Accept": "image/png"}), 406, "not_acceptable")


async def test_every_link_of_the_page_works(api: Api) -> None:
    links = re.findall(r'<a href="([^"]+)"', (await page(api)).text)
    assert links == ["/docs", "/openapi.json", "/health"]
    for link in links:
        assert (await api.client.get(link)).status_code == 200


async def test_page_does_not_link_a_reference_that_is_off(start: Start) -> None:
    async with start(docs=False) as api:
        assert re.findall(r'<a href="([^"]+)"', (await page(api)).text) == ["/health"]


async def test_page_loads_nothing(api: Api) -> None:
    """Its icon is part of it, and its style is allowed by its digest."""
    answer = await page(api)
    assert (
        re.findall(
            r"<(?:script|img|iframe|object)\b|\bsrc=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", answer.text
        )
        == []
    )
    assert re.findall(r'<link rel="(\w+)" href="(data:|)', answer.text) == [("icon", "data:")]
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert " style=" not in answer.text


async def test_page_follows_dark_mode(api: Api) -> None:
    text = (await page(api)).text
    assert "@media (prefers-color-scheme: dark)" in text
    assert '<meta name="color-scheme" content="light dark">' in text


async def test_page_may_not_be_cached_by_others(api: Api) -> None:
    assert (await page(api)).headers["cache-control"] == "private, no-cache"
