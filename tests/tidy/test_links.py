"""Links of the pages lead somewhere: to a file, to a heading, or to a valid address. Nothing is fetched."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import core

HOME = Path(core.__file__).parent.parent
PAGES = [
    *sorted((HOME / "docs").rglob("*.md")),
    *(HOME / name for name in ("README.md", ".github/SECURITY.md", "tests/benchmarks/README.md")),
]
FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)>\s]*)>?(?:\s+\"[^\"]*\")?\s*\)")
DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?(\S+?)>?(?:\s|$)", re.MULTILINE)
AUTOLINK = re.compile(r"<([a-z][a-z0-9+.-]*:[^>\s]*)>")
TAG = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=\"([^\"]*)\"")
HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.IGNORECASE)


def links_in(text: str) -> list[str]:
    """The targets of all links and pictures of a page, without examples in code."""
    prose = FENCE.sub("", text)
    tags = TAG.findall(prose)
    prose = CODE.sub("code", prose)
    return [*LINK.findall(prose), *DEFINITION.findall(prose), *AUTOLINK.findall(prose), *tags]


def anchors_in(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub names them. A repeated heading gets a number."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))


@cache
def anchors_of(page: Path) -> set[str]:
    return anchors_in(page.read_text())


def is_broken(target: str, page: Path) -> bool:
    if EXTERNAL.match(target):
        return not is_valid_address(target)
    path, _, anchor = target.partition("#")
    aim = (page.parent / unquote(path)).resolve() if path else page
    if not aim.is_relative_to(HOME) or not aim.exists():
        return True
    return bool(anchor) and aim.suffix == ".md" and anchor not in anchors_of(aim)


def is_valid_address(target: str) -> bool:
    try:
        address = urlsplit(target)
        host = address.hostname or ""
        _ = address.port
    except ValueError:
        return False
    if address.scheme == "mailto":
        return re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", address.path) is not None
    return address.scheme in ("http", "https") and HOST.fullmatch(host) is not None and "\\" not in target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(HOME).as_posix())
def test_every_link_resolves(page: Path) -> None:
    assert [target for target in links_in(page.read_text()) if is_broken(target, page)] == []


def test_pages_have_links() -> None:
    assert sum(len(links_in(page.read_text())) for page in PAGES) > 300


@pytest.mark.parametrize(
    "target",
    [
        "missing.md",
        "README.md#missing",
        "#missing",
        "../../outside.md",
        "https://",
        "http://a b",
        "ftp://a",
        "mailto:a",
    ],
)
def test_broken_links_are_found(target: str) -> None:
    assert is_broken(target, HOME / "docs/README.md")


@pytest.mark.parametrize("target", ["README.md#how-to-guides", "#tutorial", "../Makefile", "https://example.com/a#b"])
def test_good_links_pass(target: str) -> None:
    assert not is_broken(target, HOME / "docs/README.md")


def test_links_in_code_are_ignored() -> None:
    text = '[a](b.md) `[c](d.md)` ![e](f.png) <https://g.h>\n```\n[i](j.md)\n```\n[k]: l.md\n<img src="m.png">\n'
    assert links_in(text) == ["b.md", "f.png", "l.md", "https://g.h", "m.png"]


def test_anchors_are_named_like_on_github() -> None:
    text = "# Two words\n## When `giro verify` fails: why?\n## Two words\n```\n# a comment\n```\n"
    assert anchors_in(text) == {"two-words", "when-giro-verify-fails-why", "two-words-1"}
