"""Cursors: a cursor opens only for the list that it was sealed for, and only if it is unchanged."""

import base64
from typing import cast

import pytest

from core.domain.errors import CommonError, Part, Refusal
from core.ids import NEWEST, new_id
from core.security.access_tokens import AccessTokens, Claims
from core.security.cursors import Cursors
from core.security.secrets import Secrets
from core.security.token_keys import TokenKeys
from core.settings import load_settings

KEY = "a key of this test, 32 bytes and more"
OTHER_KEY = "another key, 32 bytes and more as well"
PLACE = 2**62


def cursor_refused(cursors: Cursors, cursor: str, of: str = "transfers:1") -> bool:
    with pytest.raises(Refusal) as refused:
        cursors.open(cursor, of=of)
    return (refused.value.code, refused.value.about) == (CommonError.VALIDATION_FAILED, Part.CURSOR)


def test_a_cursor_returns_the_place_that_was_sealed() -> None:
    assert Cursors(KEY).open(Cursors(KEY).seal(PLACE, of="transfers:1"), of="transfers:1") == PLACE


def test_a_cursor_has_fewer_than_200_characters_at_any_place() -> None:
    assert len(Cursors(KEY).seal(NEWEST, of="transfers:1")) < 100


@pytest.mark.parametrize("place", [[4, [1, 2]], [4, [[3, None], [3, 5]]], None, "4", 4.5])
def test_a_cursor_of_an_older_release_with_anything_but_a_row_id_is_rejected(place: object) -> None:
    cursors = Cursors(KEY)
    assert cursor_refused(cursors, cursors.seal(cast(int, place), of="transfers:1"))


def test_a_cursor_is_signed_with_256_bits() -> None:
    signature = Cursors(KEY).seal(PLACE, of="transfers:1").rpartition(".")[2]
    assert len(base64.urlsafe_b64decode(signature + "=")) == 32


@pytest.mark.parametrize("of", ["transfers:2", "accounts:1", "transfers:1:", ""])
def test_a_cursor_of_another_list_or_another_reader_is_rejected(of: str) -> None:
    assert cursor_refused(Cursors(KEY), Cursors(KEY).seal(PLACE, of="transfers:1"), of=of)


def test_a_cursor_sealed_with_another_key_is_rejected() -> None:
    assert cursor_refused(Cursors(KEY), Cursors(OTHER_KEY).seal(PLACE, of="transfers:1"))


def test_every_truncated_cursor_is_rejected() -> None:
    cursor = Cursors(KEY).seal(PLACE, of="transfers:1")
    assert all(cursor_refused(Cursors(KEY), cursor[:length]) for length in range(len(cursor)))


def test_every_changed_character_of_a_cursor_is_detected() -> None:
    cursor = Cursors(KEY).seal(PLACE, of="transfers:1")
    body = cursor.rpartition(".")[0]
    for place in range(len(body)):
        other = "A" if cursor[place] != "A" else "B"
        assert cursor_refused(Cursors(KEY), cursor[:place] + other + cursor[place + 1 :])


@pytest.mark.parametrize("cursor", ["x", "null", ".", "[1,2]", "ü.ü", "\udcff.x", "5" * 100_000])
def test_an_invalid_cursor_is_rejected(cursor: str) -> None:
    assert cursor_refused(Cursors(KEY), cursor)


def test_access_token_is_rejected_as_a_cursor() -> None:
    token_keys = TokenKeys(Secrets(load_settings(_env_file=None, jwt_secret=KEY)))
    token = AccessTokens(token_keys, seconds=900).issue(Claims(new_id(), 3))
    assert cursor_refused(Cursors(KEY), token)
