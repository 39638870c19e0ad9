"""Code, comments, names and pages contain no hard-to-read phrases. Write what a senior engineer would say aloud."""

import re
from collections.abc import Iterator
from pathlib import Path

import core

HOME = Path(core.__file__).parent.parent
INSTEAD = {
    r"mend(s|ed|ing)?": "fix",
    r"anew": "again, new",
    r"whoever": "the role: caller, client, operator",
    r"who asks": "the role: caller, client, user",
    r"is no error": "is not an error",
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
    for folder in ("docs", ".github"):
        yield from (HOME / folder).rglob("*.md")
    yield from HOME.glob("*.md")
    yield from (HOME / name for name in ("Makefile", "pyproject.toml", "Dockerfile", "docker-compose.yml"))
    yield from (path for path in (HOME / ".ci").glob("*") if path.is_file())


def phrases_in(text: str) -> list[str]:
    return [found[0] for found in PHRASES.finditer(BETWEEN_WORDS.sub(" ", text.replace(STORED_IN_DATABASES, "")))]


def found() -> dict[str, list[str]]:
    """Return the phrases of every file that has any."""
    texts = {path.relative_to(HOME).as_posix(): path.read_text() for path in written() if path != Path(__file__)}
    return {path: phrases for path, text in sorted(texts.items()) if (phrases := phrases_in(text))}


def test_files_are_in_plain_english() -> None:
    assert found() == {}, f"write instead: {INSTEAD}"


def test_phrases_are_found_in_names_and_across_lines() -> None:
    assert phrases_in("def test_it_is_mended() -> None:  # Whoever asks") == ["mended", "Whoever"]
    assert phrases_in("# a file of\n    # its own") == ["of its own"]
    assert phrases_in("assert x is None; recommended") == []
