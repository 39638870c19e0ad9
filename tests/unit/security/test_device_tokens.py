"""Device tokens: signed, for one user, for some time, and only under one password."""

from collections.abc import Callable

import pytest

from core.ids import new_id
from core.security.cursors import Cursors
from core.security.device_tokens import LONGEST_TOKEN, DeviceTokens
from tests.time_travel import Clock

KEY = "a key of this test, 32 bytes and more"
HASH = "$bcrypt-sha256$v=2,t=2b,r=12$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2"
TOKENS = DeviceTokens(KEY, days=30)


def test_a_token_is_of_the_user_and_the_password_that_it_was_issued_for() -> None:
    ada, grace = new_id(), new_id()
    device = TOKENS.read(TOKENS.issue(ada, HASH))
    assert device is not None
    assert TOKENS.is_of(device, ada, HASH)
    assert not TOKENS.is_of(device, grace, HASH)
    assert not TOKENS.is_of(device, ada, HASH.replace("v=2", "v=3"))


def test_each_log_in_names_another_device() -> None:
    ada = new_id()
    first, second = (TOKENS.read(TOKENS.issue(ada, HASH)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.name != second.name


def test_a_token_tells_nothing_of_the_password() -> None:
    token = TOKENS.issue(new_id(), HASH)
    device = TOKENS.read(token)
    assert device is not None
    assert HASH not in str(device)
    assert DeviceTokens("another key, 32 bytes and more as well", days=30)._mark(HASH) != device.mark
    assert len(token) < LONGEST_TOKEN // 2


def test_a_token_ends_with_its_life(clock: Clock) -> None:
    token = TOKENS.issue(new_id(), HASH)
    clock.advance(days=30, microseconds=-1)
    assert TOKENS.read(token)
    clock.advance(microseconds=1)
    assert TOKENS.read(token) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-1],
        lambda token: "A" + token[1:] if token[0] != "A" else "B" + token[1:],
        lambda token: DeviceTokens("another key, 32 bytes and more as well", days=30).issue(new_id(), HASH),
        lambda token: Cursors(KEY).seal(["name", "user", 2**60, "mark"], of="device"),
        lambda token: token + "x" * LONGEST_TOKEN,
        lambda token: "",
        lambda token: "ü.\udcff",
    ],
)
def test_a_changed_or_foreign_token_is_not_read(spoil: Callable[[str], str]) -> None:
    assert TOKENS.read(spoil(TOKENS.issue(new_id(), HASH))) is None
