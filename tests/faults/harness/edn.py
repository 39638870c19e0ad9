"""Reads what `elle` has written, and checks what Elle would take for granted or report first."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

TOKEN = re.compile(r"[{}\[\]]|[^\s{}\[\],]+")


def read_edn(text: str) -> list[dict[str, Any]]:
    """Parse maps, vectors, keywords, integers and nil. A keyword is a text without its colon."""
    tokens = iter(TOKEN.findall(text))
    return [_value(token, tokens) for token in tokens]


def _value(token: str, tokens: Iterator[str]) -> Any:
    if token in ("[", "{"):
        items = [_value(inner, tokens) for inner in iter(lambda: next(tokens), "]" if token == "[" else "}")]
        return items if token == "[" else dict(zip(items[::2], items[1::2], strict=True))
    if token == "nil":
        return None
    return token[1:] if token.startswith(":") else int(token)


def problems(operations: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is wrong with the form of a history, and which reads contradict each other."""
    return [*_malformed(operations), *_contradictions(operations)]


def _malformed(operations: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Indexes are dense, times do not go back, and a process does one thing at a time and nothing after a crash."""
    if [operation["index"] for operation in operations] != list(range(len(operations))):
        yield "the indexes are not dense"
    if (times := [operation["time"] for operation in operations]) != sorted(times):
        yield "the times go back"
    state: dict[int, str] = {}
    for operation in operations:
        process, kind = operation["process"], operation["type"]
        before = state.get(process)
        if (kind == "invoke") == (before == "invoke") or before == "info":
            yield f"process {process} has {kind} after {before}"
        state[process] = kind


def _contradictions(operations: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Reads of a list are prefixes of each other, have only what was appended, and all that was known to be."""
    lists: dict[int, list[int]] = defaultdict(list)
    possible: dict[int, set[int]] = defaultdict(set)
    known: dict[int, set[int]] = defaultdict(set)
    promised: dict[int, set[int]] = {}
    for operation in operations:
        for verb, key, value in operation["value"]:
            if verb == "append":
                {"invoke": possible, "ok": known}.get(operation["type"], defaultdict(set))[key].add(value)
            elif operation["type"] == "invoke":
                promised[operation["process"]] = set(known[key])
            elif operation["type"] == "ok":
                yield from _wrong(key, value, lists[key], possible[key], promised[operation["process"]])
                known[key].update(value)
                lists[key] = max(lists[key], value, key=len)
    failed = {value for operation in operations if operation["type"] == "fail" for _, _, value in operation["value"]}
    yield from (f"list {key} has {value}, which failed" for key, found in lists.items() for value in failed & {*found})


def _wrong(key: int, read: list[int], longest: list[int], possible: set[int], promised: set[int]) -> Iterator[str]:
    shorter = min(len(read), len(longest))
    if read[:shorter] != longest[:shorter]:
        yield f"list {key} was read as {read}, and as {longest}"
    if unknown := {*read} - possible:
        yield f"list {key} has {sorted(unknown)}, which nobody has appended"
    if missing := promised - {*read}:
        yield f"list {key} lacks {sorted(missing)}"
    if len({*read}) != len(read):
        yield f"list {key} has something twice: {read}"
