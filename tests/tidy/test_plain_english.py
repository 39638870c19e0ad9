"""Code, comments, names and pages contain no hard-to-read phrases, except for the files of a list.

The list only shrinks: remove a file when its last phrase is replaced. Write what a senior engineer would say aloud.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import core

HOME = Path(core.__file__).parent.parent
LIST = Path(__file__).with_name("not_yet_plain.txt")
INSTEAD = {
    r"mend(s|ed|ing)?": "fix",
    r"anew": "again, new",
    r"whoever": "the role: caller, client, operator",
    r"who asks": "the role: caller, client, user",
    r"of its own": "its own",
    r"(is|are) (?-i:none)": "invalid, missing, returns None if",
    r"what comes in": "the request, the input",
    r"no more (is|are)": "the limit, as the subject",
    r"stands (beside|there|here)": "is next to, exists",
    r"(go|goes|went|gone|going) wrong": "fail",
    r"to be had": "available",
}
PHRASES = re.compile(rf"\b({'|'.join(INSTEAD)})\b", re.IGNORECASE)
BETWEEN_WORDS = re.compile(r"_|\s*\n[ \t]*(#|>)?\s*")
"""Separators inside a phrase that is part of a name, or continues on the next line of a comment."""
STORED_IN_DATABASES = "a card is sealed anew under a newer key only"
"""Text of a trigger that existing databases contain, so that only a migration could change it."""


def written() -> Iterator[Path]:
    """Yield every file that people write: code, pages, make and CI."""
    for folder in ("api", "core", "workers", "migrations", "deploy", "tests"):
        yield from (HOME / folder).rglob("*.py")
    yield from (HOME / "docs").rglob("*.md")
    yield from HOME.glob("*.md")
    yield from (HOME / name for name in ("Makefile", "pyproject.toml", "Dockerfile", "docker-compose.yml"))
    yield from (path for path in (HOME / ".ci").glob("*") if path.is_file())


def phrases_in(text: str) -> list[str]:
    return [found[0] for found in PHRASES.finditer(BETWEEN_WORDS.sub(" ", text.replace(STORED_IN_DATABASES, "")))]


def found() -> dict[str, list[str]]:
    """Return the phrases of every file that has any."""
    texts = {path.relative_to(HOME).as_posix(): path.read_text() for path in written() if path != Path(__file__)}
    return {path: phrases for path, text in sorted(texts.items()) if (phrases := phrases_in(text))}


def test_files_that_are_not_on_the_list_are_in_plain_english() -> None:
    not_yet = LIST.read_text().splitlines()
    unlisted = {path: phrases for path, phrases in found().items() if path not in not_yet}
    assert unlisted == {}, f"write instead: {INSTEAD}"


def test_the_list_only_has_files_that_need_it() -> None:
    assert set(LIST.read_text().splitlines()) - found().keys() == set(), f"remove these lines from {LIST.name}"


def test_phrases_are_found_in_names_and_across_lines() -> None:
    assert phrases_in("def test_it_is_mended() -> None:  # Whoever asks") == ["mended", "Whoever"]
    assert phrases_in("# a file of\n    # its own") == ["of its own"]
    assert phrases_in("assert x is None; recommended") == []
