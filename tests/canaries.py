"""Canaries: values that are sent everywhere, and then searched for in every form that they could have taken."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

Request = tuple[str, str, dict[str, Any]]
"""Method, path with its query, and further arguments for an httpx client."""


def forms(word: str) -> set[bytes]:
    """Write a word in every form that a program may use: plain, escaped, quoted, in hexadecimal and in base64."""
    raw = word.encode()
    escaped = {json.dumps(word)[1:-1], json.dumps(word, ensure_ascii=False)[1:-1], repr(word)[1:-1]}
    quoted = {quote(word), quote(word, safe=""), quote_plus(word), raw.hex(), raw.hex().upper()}
    return {raw, *(text.encode() for text in escaped | quoted), *_in_base64(raw)}


def _in_base64(raw: bytes) -> Iterator[bytes]:
    """Encode a word at every offset in a longer base64 text, without the characters that depend on its neighbours."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw)
        first, last = (0, 2, 3)[before], len(encoded) - (0, 4, 4)[(before + len(raw)) % 3]
        yield encoded[first:last]
        yield encoded[first:last].translate(bytes.maketrans(b"+/", b"-_"))


CVC_IN_CONTEXT = re.compile(rb"cvc[^0-9a-z]{1,12}[0-9]{3}(?![0-9])", re.IGNORECASE)


class Seen:
    """All readable text, by the place where it was found."""

    def __init__(self) -> None:
        self._texts: dict[str, list[bytes]] = {}

    def keep(self, place: str, content: str | bytes) -> None:
        """Add a text that was found in a place."""
        text = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
        self._texts.setdefault(place, []).append(text)

    def text(self, place: str) -> bytes:
        """All text that was found in a place."""
        return b"\n".join(self._texts.get(place, []))

    def where(self, word: str) -> set[str]:
        """Name the places that contain a word, in any form."""
        wanted = forms(word)
        return {place for place, texts in self._texts.items() for text in texts if any(form in text for form in wanted)}

    def of_a_cvc(self) -> set[str]:
        """Name the places with a CVC next to its name. Three digits alone can be anywhere."""
        return {place for place, texts in self._texts.items() if any(map(CVC_IN_CONTEXT.search, texts))}


def misplaced(document: Mapping[str, Any], canaries: Mapping[str, str]) -> Iterator[Request]:
    """Put every canary wherever it does not belong, in a call of every operation that a service describes."""
    words = list(canaries.values())
    for number, (path, method, operation) in enumerate(_operations(document)):
        word = words[number % len(words)]
        filled = "/".join(quote(word, safe="") if part.startswith("{") else part for part in path.split("/"))
        yield method, f"{path}?{urlencode(canaries)}", {}
        yield method, path, {"headers": _headers(word)}
        yield method, filled, {"json": dict(canaries)}
        if "requestBody" in operation:
            fields = _fields(document, operation)
            yield method, path, {"json": _confused(fields, canaries, number)}
            yield method, path, {"data": dict.fromkeys(fields, word)}
            half = b'{"password": "' + word.encode()
            yield method, path, {"content": half, "headers": {b"Content-Type": b"application/json"}}
            yield method, path, {"content": word.encode() * 4000}


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method.upper(), operation


def _fields(document: Mapping[str, Any], operation: Mapping[str, Any]) -> list[str]:
    """The fields of a body that an operation takes."""
    (content,) = operation["requestBody"]["content"].values()
    schema = content["schema"]
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return list(schema.get("properties", {}))


def _confused(fields: list[str], canaries: Mapping[str, str], first: int) -> dict[str, str]:
    """A canary in every field, starting with the `first` one, but none in the field of its name."""
    names = list(canaries)
    body = {}
    for at, field in enumerate(fields, first):
        name = names[at % len(names)]
        body[field] = canaries[name if name != field else names[(at + 1) % len(names)]]
    return body


def _headers(word: str) -> dict[bytes, bytes]:
    """A word in every header that Giro reads, and in some that it ignores."""
    raw = word.encode()
    return {
        b"Accept": b"text/" + raw,
        b"Content-Type": b"application/" + raw,
        b"Cookie": b"session=" + raw,
        b"Idempotency-Key": raw,
        b"If-None-Match": b'"' + raw + b'"',
        b"Origin": b"https://" + raw,
        b"Prefer": b"wait=" + raw,
        b"Referer": b"https://bank.example.com/?token=" + raw,
        b"User-Agent": raw,
        b"X-Api-Key": raw,
        b"X-Forwarded-For": raw,
        b"X-Request-ID": b"a request of " + raw,
    }
