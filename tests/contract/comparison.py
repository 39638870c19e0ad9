"""Comparison of two OpenAPI documents: which changes break a client of the older one.

A request must not be narrowed and an answer must not be widened; additions pass. Bounds of answers are not compared.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

Json = dict[str, Any]

OPEN = "Later versions may add"
"""An enum of an answer whose description has these words can get more values: clients must expect unknown ones."""

LOWER, UPPER = ("minimum", "minLength", "minItems"), ("maximum", "maxLength", "maxItems")


def breaks(old: Json, new: Json) -> list[str]:
    """List what clients of the old document cannot rely on any more; empty if nothing breaks them."""
    return sorted({f"{where}: {text}" for where, text in _Comparison(old, new).paths()})


Found = Iterator[tuple[str, str]]


class _Comparison:
    """Two documents. Each method yields the place and the text of every change that breaks a client."""

    def __init__(self, old: Json, new: Json) -> None:
        self._old, self._new = old, new
        self._seen: set[tuple[str, str, bool]] = set()

    def paths(self) -> Found:
        for path, item in self._old["paths"].items():
            for method, old in item.items():
                where = f"{method.upper()} {path}"
                new = self._new["paths"].get(path, {}).get(method)
                if new is None:
                    yield where, "removed"
                else:
                    yield from self._operation(old, new, where)

    def _operation(self, old: Json, new: Json, where: str) -> Found:
        if old.get("operationId") != new.get("operationId"):
            yield where, "operationId changed, which names the function of generated clients"
        if new.get("security") and not old.get("security"):
            yield where, "needs a token now"
        yield from self._parameters(old, new, where)
        yield from self._request_body(old.get("requestBody"), new.get("requestBody"), where)
        for status, response in old["responses"].items():
            if status not in new["responses"]:
                yield where, f"status {status} removed"
                continue
            at, changed = f"{where} {status}", new["responses"][status]
            yield from self._contents(response, changed, at, sent=False)
            for name, header in response.get("headers", {}).items():
                if name not in changed.get("headers", {}):
                    yield at, f"header {name} removed"
                elif header.get("required") and not changed["headers"][name].get("required"):
                    yield at, f"header {name} can be missing now"

    def _parameters(self, old: Json, new: Json, where: str) -> Found:
        before, after = ({(p["in"], p["name"]): p for p in each.get("parameters", [])} for each in (old, new))
        for key, parameter in before.items():
            if key not in after:
                yield where, f"parameter {key[1]} removed"
            else:
                yield from self._schemas(parameter["schema"], after[key]["schema"], f"{where} {key[1]}", sent=True)
        for key, parameter in after.items():
            if parameter.get("required") and not before.get(key, {}).get("required"):
                yield where, f"parameter {key[1]} is required now"

    def _request_body(self, old: Json | None, new: Json | None, where: str) -> Found:
        if new and new.get("required") and not (old and old.get("required")):
            yield where, "a body is required now"
        if old:
            yield from self._contents(old, new or {}, f"{where} body", sent=True)

    def _contents(self, old: Json, new: Json, where: str, *, sent: bool) -> Found:
        for media_type, content in old.get("content", {}).items():
            if media_type not in new.get("content", {}):
                yield where, f"{media_type} removed"
            elif "schema" in content:
                yield from self._schemas(content["schema"], new["content"][media_type]["schema"], where, sent=sent)

    def _schemas(self, old: Json, new: Json, where: str, *, sent: bool) -> Found:
        """Compare what a client sends, which must not be narrowed, or gets, which must not be widened."""
        if "$ref" in old and "$ref" in new:
            if (old["$ref"], new["$ref"], sent) in self._seen:
                return
            self._seen.add((old["$ref"], new["$ref"], sent))
            where = old["$ref"].rpartition("/")[2]
        before, after = _variants(old, self._old), _variants(new, self._new)
        pairs = [(one, other) for one, other in product(before, after) if _fits(one, other, sent=sent)]
        for one in before if sent else ():
            if all(one is not pair[0] for pair in pairs):
                yield where, f"{_kind(one)} is not accepted any more"
        for other in () if sent else after:
            if all(other is not pair[1] for pair in pairs):
                yield where, f"can be {_kind(other)} now"
        for one, other in pairs:
            yield from self._values(one, other, where, sent=sent)
            yield from self._objects(one, other, where, sent=sent)
            if "items" in one and "items" in other:
                yield from self._schemas(one["items"], other["items"], f"{where}[]", sent=sent)

    @staticmethod
    def _values(old: Json, new: Json, where: str, *, sent: bool) -> Found:
        before, after = _enum(old), _enum(new)
        if sent and after is not None and (before is None or before - after):
            yield where, f"accepts only {sorted(after)} now"
        if not sent and before is not None and (after is None or after - before) and OPEN not in _text(old):
            yield where, "can have new values, and was not described as open"
        if not sent:
            return
        for bound in LOWER:
            if new.get(bound, float("-inf")) > old.get(bound, float("-inf")):
                yield where, f"{bound} is {new[bound]} now"
        for bound in UPPER:
            if new.get(bound, float("inf")) < old.get(bound, float("inf")):
                yield where, f"{bound} is {new[bound]} now"
        for rule in ("pattern", "allOf", "multipleOf", "uniqueItems"):
            if rule in new and new[rule] != old.get(rule):
                yield where, f"{rule} changed"

    def _objects(self, old: Json, new: Json, where: str, *, sent: bool) -> Found:
        before, after = old.get("properties", {}), new.get("properties", {})
        required, now_required = set(old.get("required", ())), set(new.get("required", ()))
        for name in before:
            if name not in after:
                yield f"{where}.{name}", "removed"
            else:
                yield from self._schemas(before[name], after[name], f"{where}.{name}", sent=sent)
        if sent:
            yield from ((f"{where}.{name}", "is required now") for name in now_required - required)
        else:
            yield from ((f"{where}.{name}", "can be missing now") for name in required & after.keys() - now_required)
        values, new_values = (each.get("additionalProperties", True) for each in (old, new))
        if isinstance(values, dict) and isinstance(new_values, dict):
            yield from self._schemas(values, new_values, f"{where}.*", sent=sent)
        elif sent and values is not False and new_values is False:
            yield where, "does not accept other fields any more"


def _variants(schema: Json, document: Json) -> list[Json]:
    """List the alternatives of a schema, without references."""
    if "$ref" in schema:
        target = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**target, **rest, "description": f"{_text(target)} {_text(rest)}"}
    options = schema.get("anyOf") or schema.get("oneOf")
    if not options:
        return [schema]
    text = _text(schema)
    found = [variant for option in options for variant in _variants(option, document)]
    return [{**variant, "description": f"{_text(variant)} {text}"} for variant in found]


def _fits(old: Json, new: Json, *, sent: bool) -> bool:
    """Return whether the new variant takes the place of the old one."""
    narrow, wide = (old, new) if sent else (new, old)
    same_type = narrow.get("type") == wide.get("type") or "type" not in wide
    widened = narrow.get("type") == "integer" and wide.get("type") == "number"
    marks = _constants(wide)
    same_marks = all(marks.get(name, value) == value for name, value in _constants(narrow).items())
    return (same_type or widened) and narrow.get("format") == wide.get("format") and same_marks


def _constants(schema: Json) -> Json:
    """Return the constant fields of an object, which tell the alternatives of an answer apart."""
    return {name: part["const"] for name, part in schema.get("properties", {}).items() if "const" in part}


def _kind(schema: Json) -> str:
    name = schema.get("title") if schema.get("type") == "object" else schema.get("format")
    return " ".join(filter(None, (schema.get("type", "any value"), name)))


def _enum(schema: Json) -> set[Any] | None:
    return {schema["const"]} if "const" in schema else set(schema["enum"]) if "enum" in schema else None


def _text(schema: Json) -> str:
    return str(schema.get("description", ""))
