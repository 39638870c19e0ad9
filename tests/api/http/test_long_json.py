"""Long JSON bodies: the result equals that of a short body, and the event loop turns while they are parsed."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.http import long_json
from api.http.long_json import ITEMS_TOGETHER, LONGEST_ITEM, PIECE_BYTES, read_long
from api.http.strict_json import DECODER, parse_json
from core.domain.errors import Refusal
from tests.api.contract import Json

LENGTH = 512 * 1024
IN_HAND = PIECE_BYTES + LONGEST_ITEM


class Reading:
    """The parsing of one body: its result, and the most that was parsed between two pauses."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.pauses = self.parsed = self.most_parsed = self.most_taken = 0

    async def read(self, body: bytes, monkeypatch: pytest.MonkeyPatch | None = None) -> Json:
        if monkeypatch is not None:
            monkeypatch.setattr(long_json, "DECODER", self)
        value = await read_long(body, "items", self._take, self._pause)
        if isinstance(value, dict) and self.items:
            value["items"] = self.items
        return value

    def decode(self, text: str) -> Any:
        self._note(len(text))
        return DECODER.decode(text)

    def raw_decode(self, text: str, at: int) -> Any:
        end = len(text)  # the furthest position that it may read to find that the value is invalid
        try:
            value, end = DECODER.raw_decode(text, at)
        finally:
            self._note(end - at)
        return value, end

    def _note(self, parsed: int) -> None:
        self.parsed += parsed
        self.most_parsed = max(self.most_parsed, self.parsed)

    def _take(self, items: list[Any], is_last: bool) -> None:
        self.items += items
        self.most_taken = max(self.most_taken, len(items))

    async def _pause(self) -> None:
        self.pauses += 1
        self.parsed = 0


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)
bodies = values | st.builds(
    lambda others, items: others | {"items": items},
    st.dictionaries(st.text(max_size=8), values, max_size=3),
    st.lists(values, max_size=20),
)


class TestALongBody:
    @settings(deadline=None)
    @given(body=bodies, indent=st.sampled_from([None, 0, 3]), ascii_only=st.booleans(), piece=st.integers(1, 40))
    async def test_has_the_same_result_as_a_short_body(
        self, body: Json, indent: int | None, ascii_only: bool, piece: int
    ) -> None:
        text = json.dumps(body, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(long_json, "PIECE_BYTES", piece)
            assert await outcome_of(Reading().read(text)) == await outcome_of(short(text))

    @settings(deadline=None)
    @given(body=bodies, data=st.data(), piece=st.integers(1, 40))
    async def test_is_rejected_like_a_short_body(self, body: Json, data: st.DataObject, piece: int) -> None:
        text = bytearray(json.dumps(body).encode())
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b",", b"]", b"}", b'"', b"\xc3"])
        )
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(long_json, "PIECE_BYTES", piece)
            assert await outcome_of(Reading().read(bytes(text))) == await outcome_of(short(bytes(text)))

    @pytest.mark.parametrize("text", ["},", '"}, {"', '[{"a": 1}, 2]', "}]}"])
    async def test_may_contain_text_that_looks_like_the_end_of_an_item(self, text: str) -> None:
        body = {"items": [{"a": text}] * 5_000}
        assert await Reading().read(json.dumps(body).encode()) == body

    @pytest.mark.parametrize("extra", [0, 1])
    async def test_limits_the_length_of_an_item(self, extra: int) -> None:
        text = "x" * (LONGEST_ITEM - 2 + extra)
        for body in ({"items": [text]}, {"items": [1, text, 1]}, {"items": [{}] * 100 + [text]}, text):
            whole = json.dumps(body).encode()
            if extra:
                with pytest.raises(Refusal) as refusal:
                    await Reading().read(whole)
                assert refusal.value.detail.endswith(f"longer than {LONGEST_ITEM} characters.")
            else:
                assert await Reading().read(whole) == body

    async def test_limits_the_total_length_outside_the_items(self) -> None:
        half = "x" * (LONGEST_ITEM // 2 - 5)
        body = {"a": half, "items": [1], "b": half}
        with pytest.raises(Refusal, match="or longer than"):
            await Reading().read(json.dumps(body).encode())
        body = {"": half, "items": [], "b": half[7:]}
        assert await Reading().read(json.dumps(body).encode()) == body

    async def test_has_at_most_a_hundred_members(self) -> None:
        members = dict.fromkeys(map(str, range(100)), 1)
        for body in (members, {"items": [members]}):
            assert await Reading().read(json.dumps(body).encode()) == body
        for body in (members | {"one": 1}, {"items": [members | {"one": 1}]}):
            with pytest.raises(Refusal, match="more than 100 members"):
                await Reading().read(json.dumps(body).encode())


def _filled(unit: bytes, start: bytes = b'{"items":[', end: bytes = b"]}") -> bytes:
    return start + b",".join([unit] * ((LENGTH - len(start) - len(end)) // (len(unit) + 1))) + end


def _keys(start: bytes, end: bytes) -> bytes:
    return start + b",".join(b'"%x":1' % number for number in range(40_000)) + end


HOSTILE = {
    "unknown keys": _keys(b"{", b"}"),
    "a line of unknown keys": _keys(b'{"items":[{', b"}]}"),
    "lines of 98 keys": _filled(b"{" + b",".join(b'"%d":1' % number for number in range(98)) + b"}"),
    "empty lines": _filled(b"{}"),
    "numbers as lines": _filled(b"1"),
    "texts as lines": _filled(b'"},"'),
    "deep lines": _filled(b"[" * 60 + b"]" * 60),
    "long deep lines": _filled(b"[" + b",".join([b"[" * 60 + b"]" * 60] * 65) + b"]"),
    "a list": _filled(b"{}", b"[", b"]"),
    "a member of lists": _filled(b"[]", b'{"other":[', b"]}"),
    "open lists": b"[" * LENGTH,
    "open lists as lines": b'{"items":[' + b"[" * LENGTH,
    "a text": b'"' + b"a" * (LENGTH - 2) + b'"',
    "a text of escapes": b'"' + b"\\u0061" * (LENGTH // 6 - 1) + b'"',
    "a number": b"1" * LENGTH,
    "white space": b" " * LENGTH,
    "white space in a line": b'{"items":[{' + b" " * (LENGTH - 20) + b"}]}",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_body_is_parsed_a_little_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading()
    await outcome_of(reading.read(HOSTILE[name], monkeypatch))
    assert reading.pauses > 0
    assert reading.most_parsed <= 3 * IN_HAND, "items together, items one by one, and the cut-off rest"
    assert reading.most_taken <= ITEMS_TOGETHER


async def test_valid_lines_are_parsed_once_and_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading()
    line = json.dumps({"from_account_id": "x" * 36, "to_account_id": "y" * 36, "amount": 1, "description": "é" * 100})
    body = b'{"items": [' + b", ".join([line.encode()] * 5_000) + b"]}"
    assert len((await reading.read(body, monkeypatch))["items"]) == 5_000
    assert reading.most_parsed <= 2 * IN_HAND
    assert len(body) / PIECE_BYTES < reading.pauses < 5 * len(body) / PIECE_BYTES


async def outcome_of(reading: Any) -> Any:
    try:
        return json.dumps(await reading)
    except (ValueError, RecursionError, Refusal):
        return ValueError


async def short(body: bytes) -> Json:
    return parse_json(body)
