"""The documentation site and its pictures: small, and without content from another host.

`make docs` checks the same of the built site.
"""

from pathlib import Path

import pytest

import core
from deploy.docs import elsewhere

PICTURES = Path(core.__file__).parent.parent / "docs" / "pictures"
LARGEST = 150_000


def found_in(folder: Path, name: str, text: str) -> list[str]:
    (folder / name).write_text(text)
    return elsewhere.loads(folder)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.html", '<script src="https://a.example/x.js"></script>'),
        ("page.html", '<img src="//a.example/x.png">'),
        ("page.html", '<link rel="stylesheet" href="https://a.example/x.css">'),
        ("page.html", '<link rel="preconnect" href="https://a.example">'),
        ("page.html", "<style>@import 'https://a.example/x.css'</style>"),
        ("style.css", "a { background: url(https://a.example/x.png) }"),
        ("picture.svg", "<style>@font-face { src: url('https://a.example/x.woff2') }</style>"),
        ("bundle.js", 'load("https://unpkg.com/mermaid@11/dist/mermaid.min.js")'),
    ],
)
def test_content_from_another_host_is_found(name: str, text: str, tmp_path: Path) -> None:
    assert len(found_in(tmp_path, name, text)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.html", '<a href="https://a.example">elsewhere</a><script src="assets/x.js"></script>'),
        ("page.html", '<link rel="canonical" href="https://a.example"><img src="data:image/png;base64,AA">'),
        ("style.css", "a { background: url(x.png) }"),
        ("picture.svg", '<svg xmlns="http://www.w3.org/2000/svg"/>'),
    ],
)
def test_links_and_own_files_are_allowed(name: str, text: str, tmp_path: Path) -> None:
    assert found_in(tmp_path, name, text) == []


def test_the_address_of_the_diagram_library_is_removed(tmp_path: Path) -> None:
    bundle = tmp_path / "assets/javascripts/bundle.1.js"
    bundle.parent.mkdir(parents=True)
    bundle.write_text('load("https://unpkg.com/mermaid@11/dist/mermaid.min.js");next()')
    elsewhere.remove_loader(tmp_path)
    assert bundle.read_text() == 'load("");next()'
    assert elsewhere.loads(tmp_path) == []


def test_pictures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in PICTURES.iterdir()}
    assert len(sizes) >= 4
    assert {name: size for name, size in sizes.items() if size > LARGEST} == {}


def test_pictures_load_nothing() -> None:
    assert elsewhere.loads(PICTURES) == []
