"""Access tokens: which are accepted, and which are rejected. Refresh tokens: how they are made."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import jwt
import pytest

from core.clock import now_us
from core.domain.errors import CommonError, Refusal
from core.security import access_tokens, token_keys
from core.security.access_tokens import AccessTokens, Claims, new_refresh_token, refresh_token_digest
from core.security.secrets import Secrets
from core.security.token_keys import TokenKeys
from core.settings import load_settings
from tests.waiting import eventually

KEY = "a key of this test, 32 bytes and more"
OTHER_KEY = "another key, 32 bytes and more as well"
LEEWAY = access_tokens.LEEWAY_SECONDS
ADA = Claims(UUID("0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b"), 3)


def keys(secret: str) -> TokenKeys:
    """Token keys with one key, from a setting."""
    return TokenKeys(Secrets(load_settings(_env_file=None, jwt_secret=secret)))


@pytest.fixture
def tokens(clean_environment: pytest.MonkeyPatch) -> AccessTokens:
    return AccessTokens(keys(KEY), seconds=900)


def refuses(tokens: AccessTokens, token: str) -> bool:
    with pytest.raises(Refusal) as refused:
        tokens.read(token)
    return refused.value.code is CommonError.UNAUTHENTICATED


def good_payload() -> dict[str, Any]:
    now = now_us() // 1_000_000
    return {
        "iss": "giro",
        "aud": "giro-api",
        "sub": str(ADA.user_id),
        "jti": "0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2c",
        "typ": "access",
        "ver": 3,
        "iat": now,
        "nbf": now,
        "exp": now + 900,
    }


def signed(payload: Any, key: str = KEY, algorithm: str = "HS256") -> str:
    """Sign a payload, even one that the library refuses to write."""
    return signed_text(json.dumps(payload), key, algorithm)


def signed_text(payload: str, key: str = KEY, algorithm: str = "HS256") -> str:
    return jwt.api_jws.encode(payload.encode(), key, algorithm=algorithm, headers={"kid": "1"})


def test_a_token_that_was_issued_here_identifies_its_user(tokens: AccessTokens) -> None:
    assert tokens.read(tokens.issue(ADA)) == ADA


def test_two_tokens_of_the_same_moment_differ(tokens: AccessTokens) -> None:
    assert tokens.issue(ADA) != tokens.issue(ADA)


def test_a_token_has_exactly_the_required_claims(tokens: AccessTokens) -> None:
    payload = jwt.decode(tokens.issue(ADA), options={"verify_signature": False})
    assert payload.keys() == good_payload().keys()
    assert payload["exp"] - payload["iat"] == 900


def test_the_payload_that_the_tests_below_change_is_valid(tokens: AccessTokens) -> None:
    assert tokens.read(signed(good_payload())) == ADA


def test_a_token_expires(tokens: AccessTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    then = now_us()
    monkeypatch.setattr(access_tokens, "now_us", lambda: then - 931 * 1_000_000)
    assert refuses(tokens, tokens.issue(ADA))
    monkeypatch.setattr(access_tokens, "now_us", lambda: then - 890 * 1_000_000)
    assert tokens.read(tokens.issue(ADA)) == ADA


@pytest.mark.parametrize(
    ("begins", "ends", "accepted"),
    [(20, 920, True), (-920, -20, True), (40, 940, False), (-940, -40, False)],
    ids=["begins in 20 s", "ended 20 s ago", "begins in 40 s", "ended 40 s ago"],
)
def test_a_clock_may_be_wrong_by_thirty_seconds(tokens: AccessTokens, begins: int, ends: int, accepted: bool) -> None:
    now = now_us() // 1_000_000
    token = signed(good_payload() | {"iat": now + begins, "nbf": now + begins, "exp": now + ends})
    for _ in ("checked", "remembered"):
        assert tokens.read(token) == ADA if accepted else refuses(tokens, token)


def test_an_older_key_is_accepted_for_longer_than_the_tokens_that_it_signed() -> None:
    assert access_tokens.LEEWAY_SECONDS < token_keys.MARGIN_SECONDS


def test_a_remembered_token_is_accepted_as_long_as_a_new_one(
    tokens: AccessTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    then, token = now_us(), tokens.issue(ADA)
    assert tokens.read(token) == ADA
    for seconds, accepted in ((929, True), (931, False), (-29, True), (-31, False)):
        monkeypatch.setattr(access_tokens, "now_us", lambda by=seconds: then + by * 1_000_000)
        checked = tokens._checked[token]
        assert (checked.begins <= access_tokens.now_us() // 1_000_000 < checked.ends) is accepted


def test_a_remembered_token_still_expires(tokens: AccessTokens) -> None:
    ends = int(time.time()) + 2
    token = signed(good_payload() | {"iat": ends - 900, "nbf": ends - 900, "exp": ends - LEEWAY})
    assert tokens.read(token) == ADA
    eventually(lambda: time.time() > ends, 5)
    assert refuses(tokens, token)


def test_a_remembered_token_is_rejected_under_another_key(tokens: AccessTokens) -> None:
    token = tokens.issue(ADA)
    assert tokens.read(token) == ADA
    assert refuses(AccessTokens(keys("another key, of 32 bytes and a few more"), seconds=900), token)


def test_the_number_of_remembered_tokens_is_limited(tokens: AccessTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_tokens, "MOST_CHECKED", 3)
    for _ in range(10):
        assert tokens.read(tokens.issue(ADA)) == ADA
        assert len(tokens._checked) <= 3


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "jti", "typ", "ver", "iat", "nbf", "exp"])
def test_every_claim_is_required(tokens: AccessTokens, claim: str) -> None:
    payload = good_payload()
    del payload[claim]
    assert refuses(tokens, signed(payload))


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("iss", "somebody"),
        ("iss", 1),
        ("aud", "another-api"),
        ("aud", []),
        ("aud", {"giro-api": 1}),
        ("typ", "refresh"),
        ("typ", 1),
        ("sub", "ada"),
        ("sub", ""),
        ("sub", 1),
        ("sub", None),
        ("sub", [str(ADA.user_id)]),
        ("ver", "3"),
        ("ver", 3.0),
        ("ver", True),
        ("ver", None),
        ("exp", lambda now: now - 31),
        ("exp", lambda now: now + 900.5),
        ("exp", lambda now: str(now + 900)),
        ("exp", True),
        ("exp", None),
        ("exp", lambda now: [now + 900]),
        ("exp", 10**400),
        ("exp", lambda now: now + 86_402 + 60),
        ("nbf", lambda now: now + 3600),
        ("nbf", 0.5),
        ("nbf", True),
        ("iat", lambda now: now + 3600),
        ("iat", lambda now: now - 86_400),
        ("iat", float),
        ("iat", True),
        ("iat", "now"),
    ],
)
def test_an_invalid_claim_is_rejected(tokens: AccessTokens, claim: str, value: Any) -> None:
    if callable(value):
        value = value(now_us() // 1_000_000)
    assert refuses(tokens, signed(good_payload() | {claim: value}))


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "1e999999999", "1" * 5000])
def test_a_number_out_of_the_range_of_a_clock_is_rejected(tokens: AccessTokens, number: str) -> None:
    for claim in ("exp", "iat", "nbf", "ver"):
        text = json.dumps(good_payload() | {claim: "HERE"}).replace('"HERE"', number)
        assert refuses(tokens, signed_text(text))


def test_a_payload_with_too_deep_nesting_is_rejected(tokens: AccessTokens) -> None:
    assert refuses(tokens, signed_text("[" * 100_000))
    assert refuses(tokens, signed_text('{"a":' * 100_000))


@pytest.mark.parametrize("payload", ["[]", "1", "null", '"text"', "", "{", "\ufeff{}"])
def test_a_payload_that_is_not_an_object_is_rejected(tokens: AccessTokens, payload: str) -> None:
    assert refuses(tokens, signed_text(payload))


def test_a_token_signed_with_another_key_is_rejected(tokens: AccessTokens) -> None:
    assert refuses(tokens, signed(good_payload(), key=OTHER_KEY))
    assert refuses(AccessTokens(keys(OTHER_KEY), seconds=900), tokens.issue(ADA))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_a_token_of_another_algorithm_is_rejected_even_with_our_key(tokens: AccessTokens, algorithm: str) -> None:
    long = KEY * 2
    assert refuses(AccessTokens(keys(long), seconds=900), signed(good_payload(), key=long, algorithm=algorithm))


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, "HS256 "])
def test_a_token_without_a_signature_is_rejected(tokens: AccessTokens, algorithm: str | None) -> None:
    head = encoded({"alg": algorithm, "typ": "JWT", "kid": "1"})
    assert refuses(tokens, f"{head}.{encoded(good_payload())}.")
    assert refuses(tokens, f"{head}.{encoded(good_payload())}.{tokens.issue(ADA).rpartition('.')[2]}")


def test_a_token_with_a_changed_payload_is_rejected(tokens: AccessTokens) -> None:
    head, _, signature = tokens.issue(ADA).split(".")
    assert refuses(tokens, f"{head}.{encoded(good_payload() | {'ver': 4})}.{signature}")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: "",
        lambda token: token[:-1],
        lambda token: token[1:],
        lambda token: token.rsplit(".", 1)[0],
        lambda token: token.rsplit(".", 1)[0] + ".",
        lambda token: f"{token}.x",
        lambda token: f"{token}ü",
        lambda token: "..",
        lambda token: "\udcff.\udcff.\udcff",
        lambda token: "a" * 100_000,
    ],
)
def test_a_malformed_token_is_rejected(tokens: AccessTokens, spoil: Callable[[str], str]) -> None:
    assert refuses(tokens, spoil(tokens.issue(ADA)))


def test_a_token_with_the_longest_lifetime_is_accepted_and_one_second_more_is_rejected(tokens: AccessTokens) -> None:
    now = now_us() // 1_000_000
    longest = good_payload() | {"iat": now, "exp": now + 86_400}
    assert tokens.read(signed(longest)) == ADA
    assert refuses(tokens, signed(longest | {"exp": now + 86_401}))


def test_a_token_without_a_lifetime_is_rejected(tokens: AccessTokens) -> None:
    now = now_us() // 1_000_000
    assert refuses(tokens, signed(good_payload() | {"iat": now, "exp": now}))


# --- refresh tokens ---


def test_refresh_tokens_are_long_and_unique_and_only_their_digest_is_stored() -> None:
    drawn = {new_refresh_token() for _ in range(100)}
    assert len(drawn) == 100
    assert all(len(token) >= 43 for token in drawn)
    token = drawn.pop()
    assert refresh_token_digest(token) == refresh_token_digest(token)
    assert token.encode() not in refresh_token_digest(token)
    assert len(refresh_token_digest("\udcff")) == 32, "every text that a client sends has a digest"
