"""The check of breaking changes: what it reports, what passes, and which revision it compares with."""

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract import breaking
from tests.contract.comparison import breaks

Json = dict[str, Any]

OLD: Json = {
    "info": {"version": "1.2.0"},
    "paths": {
        "/things": {
            "post": {
                "operationId": "make_thing",
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100}},
                    {"name": "color", "in": "query", "schema": {"$ref": "#/components/schemas/Color"}},
                ],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewThing"}}}},
                "responses": {
                    "201": {
                        "headers": {"Location": {"required": True}, "ETag": {}},
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}},
                    },
                    "404": {},
                },
            }
        }
    },
    "components": {
        "schemas": {
            "Color": {"type": "string", "enum": ["blue", "red"]},
            "Code": {"type": "string", "enum": ["bad"], "description": "Later versions may add codes."},
            "NewThing": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string", "maxLength": 10, "pattern": "^a"},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "parts": {"type": "array", "items": {"type": "integer"}, "maxItems": 5},
                },
            },
            "Thing": {
                "type": "object",
                "required": ["id", "color"],
                "properties": {
                    "id": {"type": "string", "format": "uuid"},
                    "color": {"$ref": "#/components/schemas/Color"},
                    "code": {"anyOf": [{"$ref": "#/components/schemas/Code"}, {"type": "null"}]},
                    "size": {"type": "number"},
                    "sums": {"type": "object", "additionalProperties": {"type": "integer"}},
                    "state": {
                        "anyOf": [
                            {"type": "object", "required": ["is"], "properties": {"is": {"const": "new"}}},
                            {"type": "object", "required": ["is"], "properties": {"is": {"const": "old"}}},
                        ]
                    },
                },
            },
        }
    },
}


def operation(document: Json) -> Json:
    found: Json = document["paths"]["/things"]["post"]
    return found


def schema(document: Json, name: str) -> Json:
    found: Json = document["components"]["schemas"][name]
    return found


def field(document: Json, name: str, key: str) -> Json:
    found: Json = schema(document, name)["properties"][key]
    return found


Change = Callable[[Json], Any]

BREAKS: dict[str, tuple[Change, str]] = {
    "path": (lambda d: d["paths"].pop("/things"), "POST /things: removed"),
    "operation": (lambda d: d["paths"]["/things"].pop("post"), "POST /things: removed"),
    "operation id": (lambda d: operation(d).update(operationId="thing"), "operationId changed"),
    "token": (lambda d: operation(d).update(security=[{"oauth": []}]), "needs a token now"),
    "status": (lambda d: operation(d)["responses"].pop("404"), "status 404 removed"),
    "header": (lambda d: operation(d)["responses"]["201"]["headers"].pop("ETag"), "header ETag removed"),
    "header is optional": (
        lambda d: operation(d)["responses"]["201"]["headers"]["Location"].clear(),
        "header Location can be missing now",
    ),
    "media type": (lambda d: operation(d)["responses"]["201"].pop("content"), "application/json removed"),
    "request body": (lambda d: operation(d).pop("requestBody"), "application/json removed"),
    "required body": (lambda d: operation(d)["requestBody"].update(required=True), "a body is required now"),
    "parameter": (lambda d: operation(d)["parameters"].pop(), "parameter color removed"),
    "new required parameter": (
        lambda d: operation(d)["parameters"].append(
            {"name": "x", "in": "query", "required": True, "schema": {"type": "string"}}
        ),
        "parameter x is required now",
    ),
    "optional parameter becomes required": (
        lambda d: operation(d)["parameters"][0].update(required=True),
        "parameter limit is required now",
    ),
    "lower maximum": (lambda d: operation(d)["parameters"][0]["schema"].update(maximum=99), "maximum is 99 now"),
    "higher minimum": (lambda d: operation(d)["parameters"][0]["schema"].update(minimum=2), "minimum is 2 now"),
    "shorter list": (lambda d: field(d, "NewThing", "parts").update(maxItems=4), "maxItems is 4 now"),
    "new bound": (lambda d: field(d, "NewThing", "name").update(minLength=1), "minLength is 1 now"),
    "new pattern": (lambda d: field(d, "NewThing", "name").update(pattern="^b"), "pattern changed"),
    "new rule": (lambda d: schema(d, "NewThing").update(allOf=[{"required": ["note"]}]), "allOf changed"),
    "request enum narrowed": (lambda d: schema(d, "Color").update(enum=["blue"]), "accepts only ['blue'] now"),
    "request field": (lambda d: schema(d, "NewThing")["properties"].pop("note"), "NewThing.note: removed"),
    "required request field": (lambda d: schema(d, "NewThing")["required"].append("note"), "note: is required now"),
    "new required request field": (
        lambda d: (
            schema(d, "NewThing")["properties"].update(x={"type": "string"}),
            schema(d, "NewThing")["required"].append("x"),
        ),
        "NewThing.x: is required now",
    ),
    "null not accepted": (
        lambda d: schema(d, "NewThing")["properties"].update(note={"type": "string"}),
        "NewThing.note: null is not accepted any more",
    ),
    "request type": (lambda d: field(d, "NewThing", "name").update(type="integer"), "string is not accepted any more"),
    "request item type": (
        lambda d: field(d, "NewThing", "parts")["items"].update(type="string"),
        "NewThing.parts[]: integer is not accepted any more",
    ),
    "answer field": (lambda d: schema(d, "Thing")["properties"].pop("color"), "Thing.color: removed"),
    "answer field is optional": (lambda d: schema(d, "Thing")["required"].remove("color"), "can be missing now"),
    "answer type": (lambda d: field(d, "Thing", "size").update(type="string"), "Thing.size: can be string now"),
    "answer format": (lambda d: field(d, "Thing", "id").pop("format"), "Thing.id: can be string now"),
    "answer can be null": (
        lambda d: schema(d, "Thing")["properties"].update(size={"anyOf": [{"type": "number"}, {"type": "null"}]}),
        "Thing.size: can be null now",
    ),
    "answer enum widened": (lambda d: schema(d, "Color")["enum"].append("pink"), "Color: can have new values"),
    "answer enum gone": (lambda d: schema(d, "Color").pop("enum"), "Color: can have new values"),
    "values of a map": (
        lambda d: field(d, "Thing", "sums")["additionalProperties"].update(type="string"),
        "Thing.sums.*: can be string now",
    ),
    "new alternative": (
        lambda d: field(d, "Thing", "state")["anyOf"].append(
            {"type": "object", "properties": {"is": {"const": "odd"}}}
        ),
        "Thing.state: can be object now",
    ),
}

PASSES: dict[str, Change] = {
    "nothing": lambda _: None,
    "path": lambda d: d["paths"].update({"/new": {"get": {"responses": {}}}}),
    "operation": lambda d: d["paths"]["/things"].update(get={"responses": {}}),
    "status": lambda d: operation(d)["responses"].update({"409": {}}),
    "header": lambda d: operation(d)["responses"]["201"]["headers"].update(Vary={}),
    "optional parameter": lambda d: operation(d)["parameters"].append(
        {"name": "x", "in": "query", "schema": {"type": "string"}}
    ),
    "wider bounds": lambda d: operation(d)["parameters"][0]["schema"].update(minimum=0, maximum=101),
    "bound removed": lambda d: operation(d)["parameters"][0]["schema"].pop("maximum"),
    "pattern removed": lambda d: field(d, "NewThing", "name").pop("pattern"),
    "optional request field": lambda d: schema(d, "NewThing")["properties"].update(x={"type": "string"}),
    "request field is optional": lambda d: schema(d, "NewThing")["required"].clear(),
    "request type widened": lambda d: field(d, "NewThing", "parts")["items"].update(type="number"),
    "request accepts null": lambda d: schema(d, "NewThing")["properties"].update(
        parts={"anyOf": [field(d, "NewThing", "parts"), {"type": "null"}]}
    ),
    "answer field": lambda d: schema(d, "Thing")["properties"].update(x={"type": "string"}),
    "answer field is always there": lambda d: schema(d, "Thing")["required"].append("size"),
    "answer type narrowed": lambda d: field(d, "Thing", "size").update(type="integer"),
    "open enum widened": lambda d: schema(d, "Code")["enum"].append("worse"),
    "texts": lambda d: (operation(d).update(summary="x"), schema(d, "Color").update(description="x", title="X")),
    "schema renamed": lambda d: (
        d["components"]["schemas"].update(Item=schema(d, "Thing")),
        operation(d)["responses"]["201"]["content"]["application/json"]["schema"].update(
            {"$ref": "#/components/schemas/Item"}
        ),
    ),
}


def changed(change: Change) -> Json:
    document = copy.deepcopy(OLD)
    change(document)
    return document


@pytest.mark.parametrize(("change", "expected"), BREAKS.values(), ids=BREAKS)
def test_change_that_breaks_clients_is_reported(change: Change, expected: str) -> None:
    found = breaks(OLD, changed(change))
    assert any(expected in text for text in found), found


@pytest.mark.parametrize("change", PASSES.values(), ids=PASSES)
def test_change_that_breaks_no_client_passes(change: Change) -> None:
    assert breaks(OLD, changed(change)) == []


def test_recursive_schema_is_compared_once() -> None:
    def recurse(document: Json) -> None:
        schema(document, "Thing")["properties"]["parent"] = {"$ref": "#/components/schemas/Thing"}

    assert breaks(changed(recurse), changed(recurse)) == []


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [
        ("1.2.0", "2.0.0", True),
        ("1.2.0", "1.3.0", False),
        ("0.1.0", "0.2.0", True),
        ("0.1.0", "1.0.0", True),
        ("0.1.0", "0.1.1", False),
        ("1.9.0", "1.9.0", False),
    ],
)
def test_only_a_version_that_announces_breaks_allows_them(old: str, new: str, allowed: bool) -> None:
    assert breaking.allows_breaks(old, new) == allowed


class TestTheRevision:
    """Each test makes a small repository with three commits, of which the last one breaks clients."""

    @pytest.fixture
    def repository(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "repository"
        page = folder / breaking.NAME
        page.parent.mkdir(parents=True)
        self.git(folder, "init", "-q", "-b", "main")
        for document in (OLD, OLD, changed(BREAKS["status"][0])):
            page.write_text(json.dumps(document))
            self.git(folder, "add", "-A")
            self.git(folder, "commit", "-q", "--allow-empty", "-m", "change")
        self.use(folder, monkeypatch)
        return folder

    @staticmethod
    def git(folder: Path, *words: str) -> None:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)

    @staticmethod
    def use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(breaking, "HOME", folder)
        monkeypatch.setattr(breaking, "PAGE", folder / breaking.NAME)

    def test_is_the_commit_before_without_tag_and_remote(
        self, repository: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert breaking.main(None) == 1
        shown = capsys.readouterr().out
        assert "since HEAD~1" in shown
        assert "POST /things: status 404 removed" in shown

    def test_is_the_newest_tag_before_head(self, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.git(repository, "tag", "v1.2.0", "HEAD~2")
        self.git(repository, "tag", "v1.3.0", "HEAD")
        assert breaking.main(None) == 1
        assert "since v1.2.0" in capsys.readouterr().out

    def test_can_be_named(self, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert breaking.main("HEAD") == 0
        assert "since HEAD (" in capsys.readouterr().out
        assert breaking.main("nothing") == 2

    def test_is_the_remote_branch_where_head_is_ahead(
        self, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.git(tmp_path, "clone", "-q", str(repository), "clone")
        self.use(tmp_path / "clone", monkeypatch)
        assert breaking.main(None) == 1
        assert "since HEAD~1" in capsys.readouterr().out, "the remote branch is HEAD itself"
        self.git(tmp_path / "clone", "commit", "-q", "--allow-empty", "-m", "more")
        assert breaking.main(None) == 0
        assert "since origin/main" in capsys.readouterr().out

    def test_is_missing_in_a_shallow_clone(
        self, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.git(tmp_path, "clone", "-q", "--depth", "1", repository.as_uri(), "shallow")
        self.use(tmp_path / "shallow", monkeypatch)
        assert breaking.main(None) == 0
        assert "no earlier revision" in capsys.readouterr().out

    def test_without_the_document_is_not_compared(
        self, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(breaking, "NAME", "docs/nothing.json")
        assert breaking.main("HEAD~1") == 0
        assert "has no docs/nothing.json" in capsys.readouterr().out
