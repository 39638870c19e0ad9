"""Adds to MkDocs: navigation from docs/README.md, diagrams as pictures, and links that leave docs/."""

import hashlib
import os.path
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import mermaidx
from markdown import Extension, Markdown
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from deploy.docs import api_reference, elsewhere

HOME = Path(__file__).parents[2]
DOCS = HOME / "docs"
INTRODUCTION = "introduction.md"
"""The repository's README as a page of the site."""

_FENCE = re.compile(r"^(```+).*?^\1", re.MULTILINE | re.DOTALL)
_DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

INKS = {
    "#010101": ("#1f2933", "#e3e8ee"),  # text
    "#020202": ("#5b6b7b", "#93a1b0"),  # lines
    "#030303": ("#e6f3f0", "#173b36"),  # boxes
    "#040404": ("#0b6b5d", "#43b8a4"),  # edges of boxes
    "#050505": ("#ffffff", "#1e2129"),  # behind labels
}
"""Colours that diagrams are drawn with, and what they become in light and dark mode."""
_TEXT, _LINES, _BOXES, _EDGES, _GROUND = INKS

DRAWN = {
    "theme": "base",
    "fontFamily": "DejaVu Sans, Verdana, sans-serif",
    "themeVariables": {
        "fontFamily": "DejaVu Sans, Verdana, sans-serif",
        "background": _GROUND,
        "primaryColor": _BOXES,
        "primaryBorderColor": _EDGES,
        "primaryTextColor": _TEXT,
        "secondaryColor": _BOXES,
        "tertiaryColor": _BOXES,
        "mainBkg": _BOXES,
        "nodeBorder": _EDGES,
        "lineColor": _LINES,
        "textColor": _TEXT,
        "edgeLabelBackground": _GROUND,
        "labelBackgroundColor": _GROUND,
        "transitionColor": _LINES,
        "transitionLabelColor": _TEXT,
        "stateLabelColor": _TEXT,
        "stateBkg": _BOXES,
        "specialStateColor": _LINES,
        "innerEndBackground": _LINES,
        "compositeBackground": _GROUND,
        "actorBkg": _BOXES,
        "actorBorder": _EDGES,
        "actorTextColor": _TEXT,
        "actorLineColor": _LINES,
        "signalColor": _LINES,
        "signalTextColor": _TEXT,
        "labelTextColor": _TEXT,
        "loopTextColor": _TEXT,
    },
}


class TwoSpaces(Extension):  # type: ignore[misc]  # the library is in another environment
    """Two spaces indent a nested list, as on GitHub. Python-Markdown wants four."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - the library's name
        md.tab_length = 2
        md.build_parser()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the navigation, and adapt the Markdown dialect."""
    config.markdown_extensions.insert(0, TwoSpaces())
    config.nav = navigation((DOCS / "README.md").read_text())
    return config


def navigation(index: str) -> list[Any]:
    """Return a tab for each section of docs/README.md, with the pages that it links to."""
    tabs: list[Any] = [{"Home": ["README.md", {"Introduction": INTRODUCTION}]}]
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        pages = [(text, target) for text, target in _LINK.findall(body) if target.endswith(".md")]
        tabs.append({title.strip(): [_entry(text, target) for text, target in pages]})
    return tabs


def _entry(text: str, target: str) -> Any:
    if text.isdigit():  # a decision: its own title has the number
        return target
    folder = DOCS / target
    if folder.name != "README.md":
        return {text.replace("`", ""): target}
    pages = sorted(page.relative_to(DOCS).as_posix() for page in folder.parent.glob("*.md"))
    return {text: [target, *(page for page in pages if page != target)]}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README, the API reference, and the pictures of all diagrams."""
    readme = HOME / "README.md"
    files.append(File.generated(config, INTRODUCTION, content=readme.read_text()))
    files.append(File.generated(config, api_reference.PAGE, content=api_reference.page()))
    files.append(File.generated(config, api_reference.SCRIPT, content=api_reference.script()))
    for path in (readme, *sorted(DOCS.rglob("*.md"))):
        for source in _DIAGRAM.findall(path.read_text()):
            for name, picture in zip(_names(source), _pictures(source), strict=True):
                files.append(File.generated(config, name, content=picture))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Replace diagrams by their pictures, and adapt links that leave docs/."""
    source = "README.md" if page.file.src_uri == INTRODUCTION else f"docs/{page.file.src_uri}"
    shown = _DIAGRAM.sub(lambda found: _picture(found, markdown, page), markdown)
    return _outside_fences(shown, lambda text: _LINK.sub(lambda link: _adapted(link, source, page, config), text))


def on_post_build(config: MkDocsConfig) -> None:
    """Check that a browser loads nothing from another host."""
    folder = Path(config.site_dir)
    elsewhere.remove_loader(folder)
    if found := elsewhere.loads(folder):
        raise SystemExit("The site loads from other hosts:\n" + "\n".join(found))


def _outside_fences(text: str, change: Callable[[str], str]) -> str:
    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(text[end:])])


def _adapted(link: re.Match[str], source: str, page: Page, config: MkDocsConfig) -> str:
    text, target = link.groups()
    path, hash_sign, anchor = target.partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return link[0]
    aim = os.path.normpath(PurePosixPath(source).parent / path)
    if HOME / aim == api_reference.DOCUMENT:
        aim = f"docs/{api_reference.PAGE}"
    if aim == "README.md":
        aim = f"docs/{INTRODUCTION}"
    generated = (f"docs/{INTRODUCTION}", f"docs/{api_reference.PAGE}")
    if aim in generated or (aim.startswith("docs/") and (HOME / aim).is_file()):
        here = PurePosixPath(page.file.src_uri).parent
        return f"[{text}]({os.path.relpath(aim.removeprefix('docs/'), here)}{hash_sign}{anchor})"
    if not (HOME / aim).exists():
        return link[0]  # a broken link: MkDocs reports it
    if config.repo_url:
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{aim})"
    if aim in text:
        return text if "`" in text else f"`{text}`"
    return f"{text} (`{aim}`)"


def _picture(found: re.Match[str], markdown: str, page: Page) -> str:
    """Return the Markdown of a diagram: two pictures, one for each mode."""
    heading = _HEADING.findall(markdown[: found.start()])[-1]
    here = PurePosixPath(page.file.src_uri).parent
    light, dark = (os.path.relpath(name, here) for name in _names(found[1]))
    return "\n".join(
        (
            f"![Diagram: {heading}]({light}#only-light){{ .diagram }}",
            f"![Diagram: {heading}]({dark}#only-dark){{ .diagram }}",
        )
    )


def _names(source: str) -> tuple[str, str]:
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    return f"diagrams/{digest}-light.svg", f"diagrams/{digest}-dark.svg"


def _pictures(source: str) -> tuple[str, str]:
    drawn = mermaidx.render(source, config=DRAWN).svg()
    if "Syntax error" in drawn:
        raise SystemExit(f"not a diagram:\n{source}")
    light = dark = drawn
    for ink, (by_day, by_night) in INKS.items():
        light, dark = light.replace(ink, by_day), dark.replace(ink, by_night)
    return light, dark
