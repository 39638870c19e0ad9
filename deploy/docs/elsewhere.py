"""Finds what the pages of a built site load from other hosts."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

_OTHER_HOST = re.compile(r"(?:https?:)?//", re.IGNORECASE)
_IN_STYLES = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
_LOADED = {"src", "srcset", "data", "poster"}
_LOADED_BY_LINK = {
    "stylesheet",
    "icon",
    "preload",
    "modulepreload",
    "preconnect",
    "prefetch",
    "dns-prefetch",
    "manifest",
}
_DIAGRAM_LIBRARY = re.compile(r"https://unpkg\.com/[^\"'`]+")


def loads(site: Path) -> list[str]:
    """Return each file of a site with the address that it loads from another host."""
    return [
        f"{path.relative_to(site)}: {address}"
        for path in sorted(site.rglob("*"))
        if path.suffix in (".html", ".css", ".svg", ".js")
        for address in _in_file(path)
    ]


def remove_loader(site: Path) -> None:
    """Remove the theme's address of a library that draws diagrams: the diagrams are drawn already."""
    for path in site.glob("assets/javascripts/bundle*.js"):
        path.write_text(_DIAGRAM_LIBRARY.sub("", path.read_text()))


def _in_file(path: Path) -> Iterator[str]:
    text = path.read_text()
    if path.suffix == ".js":
        yield from _DIAGRAM_LIBRARY.findall(text)
        return
    yield from _IN_STYLES.findall(text)
    if path.suffix == ".html":
        page = _Page()
        page.feed(text)
        yield from page.loaded


class _Page(HTMLParser):
    """Collects the addresses on other hosts that a page loads. Links that a reader may click are not among them."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        found = [values[name] for name in values.keys() & _LOADED]
        if tag == "link" and set(values.get("rel", "").lower().split()) & _LOADED_BY_LINK:
            found.append(values.get("href", ""))
        self.loaded += [address for address in found if _OTHER_HOST.match(address.strip())]
