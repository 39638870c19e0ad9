"""Passwords, tokens and sealed cursors."""

import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

import jwt
from itsdangerous import BadData, URLSafeSerializer
from jwt.utils import base64url_decode
from passlib.hash import bcrypt_sha256
from zxcvbn_rs_py import zxcvbn

from core.clock import now_us
from core.domain.errors import ErrorCode, Refusal
from core.ids import new_id
from core.key_derivation import derive_key
from core.key_files import TokenKey
from core.token_keys import TokenKeys, TokenRing

ALGORITHM = "HS256"
ISSUER = "giro"
AUDIENCE = "giro-api"
TOKEN_TYPE = "access"
LONGEST_LIFE_SECONDS = 86_400


JUDGED = 24
"""Characters at the front that a password is judged by. To judge them takes a millisecond, and thirty at the worst, in
which Python does nothing else; at 128 characters the worst is a second."""

MOST_WORDS = 20
"""Words of a name, or of an address, that count as known."""

LEAST_GUESSES = 10**8
"""In the order in which people guess. The authors of zxcvbn call this safe, where hashes are slow."""


class Passwords:
    """Hashes of passwords. Slow on purpose: call it in a thread, never on an event loop or inside a unit of work.

    `bcrypt_sha256` of passlib's maintained fork: nothing is cut at bcrypt's 72 bytes.
    """

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._scheme: Any = bcrypt_sha256.using(rounds=rounds)
        self._nobody = self._scheme.hash(secrets.token_urlsafe(16))

    def hash(self, password: str) -> str:
        """Hash a password."""
        hashed: str = self._scheme.hash(password)
        return hashed

    def choose(self, password: str, about: Iterable[str | None], field: str | None = None) -> str:
        """Hash a new password, once it is judged."""
        self.judge(password, about, field)
        return self.hash(password)

    def judge(self, password: str, about: Iterable[str | None], field: str | None = None) -> None:
        """Raise Refusal (`validation_failed`, about `field`) for a new password that is easily guessed.

        `about` is what is known of the person: address, name, bank.
        """
        if is_easily_guessed(password, about):
            raise Refusal(ErrorCode.VALIDATION_FAILED, field=field, detail=EASILY_GUESSED)

    def verify(self, password: str, kept: str | None) -> bool:
        """Compare a password with its kept hash; None, for nobody, costs the same time and is False.

        So does a wrong password for a hash from before the cost was raised. One from before it was lowered costs more.
        """
        if kept is None or not self._scheme.identify(kept):
            self._scheme.verify(password, self._nobody)
            return False
        matches = bool(self._scheme.verify(password, kept))
        if not matches:
            # Each round of these doubles the time, and together they take what the kept hash falls short of.
            for rounds in range(self._scheme.from_string(kept).rounds, self._rounds):
                self._scheme.using(rounds=rounds).hash(password)
        return matches

    def is_outdated(self, kept: str) -> bool:
        """Say whether a kept hash costs less, or more, than new ones do."""
        return bool(self._scheme.needs_update(kept))


EASILY_GUESSED = (
    "The password is easily guessed. Take several words that have nothing to do with each other or with you; no common "
    "password, no repetition, and no row of keys or digits."
)


def is_easily_guessed(password: str, about: Iterable[str | None]) -> bool:
    """Say whether a password is among those that are tried first, by people who know what `about` says.

    Common passwords, words, names, dates, rows of keys, repetitions, all of them spelled with digits as well: what the
    library zxcvbn counts (Wheeler, USENIX Security 2016). Nothing counts that stands after the first `JUDGED`
    characters, and nothing that is known of the person: neither saves a password that is weak without it.
    """
    known = _words(about)
    others = re.sub("|".join(map(re.escape, known)), "", password, flags=re.IGNORECASE) if known else password
    return zxcvbn(others[:JUDGED], known).guesses < LEAST_GUESSES


def _words(about: Iterable[str | None]) -> list[str]:
    """What is known of somebody, whole and word by word, of three letters at least, longest first."""
    texts = [text.lower() for text in about if text]
    words = {word for text in texts for word in (text, *re.split(r"[\W_]+", text)[:MOST_WORDS]) if len(word) > 2}
    return sorted(words, key=lambda word: (-len(word), word))


@dataclass(frozen=True, slots=True)
class Claims:
    """What an access token says: whose it is, and at which of the user's token versions it was given."""

    user_id: UUID
    token_version: int


MOST_CHECKED = 10_000
"""Tokens remembered as checked, some hundred bytes each; beyond, all are forgotten and checked anew."""

LONGEST_TOKEN = 1024
"""Characters; ours have some 430."""

_TOKEN = re.compile(r"([\w-]{1,100})\.[\w-]+\.[\w-]{43}", re.ASCII)
"""Header, payload, and 32 bytes of signature."""


class AccessTokens:
    """Signed access tokens (RFC 7519, with the advice of RFC 8725) under one algorithm and a ring of keys."""

    def __init__(self, keys: TokenKeys, *, seconds: int) -> None:
        self.seconds = seconds
        self._keys = keys
        self._ring = keys.ring()
        self._jwt = _StrictJWT({"enforce_minimum_key_length": True})
        self._checked: dict[str, _Checked] = {}

    def issue(self, claims: Claims) -> str:
        """Make a token that lives for `seconds` from now, signed with the newest key."""
        now = now_us() // 1_000_000
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(claims.user_id),
            "jti": str(new_id()),
            "typ": TOKEN_TYPE,
            "ver": claims.token_version,
            "iat": now,
            "nbf": now,
            "exp": now + self.seconds,
        }
        key = self._ring_now(anew=True).signing
        return self._jwt.encode(payload, key.secret, algorithm=ALGORITHM, headers={"kid": key.kid})

    def read(self, token: str) -> Claims:
        """Check a token and return its claims; raises Refusal (`unauthenticated`) whatever is wrong with it.

        A token that was checked before is only held to its time: it is the same text under the same key.
        """
        self._ring_now()
        known = self._checked.get(token)
        if known is not None and known.begins <= now_us() // 1_000_000 < known.ends:
            return known.claims
        checked = self._check(token)
        if len(self._checked) >= MOST_CHECKED:
            self._checked.clear()
        self._checked[token] = checked
        return checked.claims

    def _ring_now(self, *, anew: bool = False) -> TokenRing:
        """The keys as they are, with what was checked under other keys forgotten."""
        ring = self._keys.ring(anew=anew)
        if ring is not self._ring:
            self._checked.clear()
            self._ring = ring
        return ring

    def _check(self, token: str) -> "_Checked":
        try:
            key = self._key_of(token)
            payload = self._jwt.decode(
                token,
                key.secret,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                options={"require": ["exp", "iat", "nbf", "iss", "aud", "sub", "jti"], "strict_aud": True},
            )
            claims = _claims(payload)
        except (jwt.PyJWTError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise Refusal(ErrorCode.UNAUTHENTICATED) from None
        ends = payload["exp"] if key.until is None else min(payload["exp"], key.until)
        return _Checked(claims, payload["nbf"], ends)

    def _key_of(self, token: str) -> TokenKey:
        """Find the key that a token's header names; raises ValueError for a header that is not exactly as we write it.

        So nothing that a header could ask for, such as another algorithm, a key of its own (`jwk`, `x5c`) or one to be
        fetched (`jku`, `x5u`), is as much as looked at.
        """
        parts = _TOKEN.fullmatch(token) if len(token) <= LONGEST_TOKEN else None
        if parts is None:
            raise ValueError("not written like a token of ours")
        header = _strict_json(base64url_decode(parts[1]))
        kid = header.get("kid") if isinstance(header, dict) else None
        if not isinstance(kid, str) or header != {"alg": ALGORITHM, "typ": "JWT", "kid": kid}:
            raise ValueError("not a header of ours")
        now = now_us() // 1_000_000
        key = self._ring.find(kid, now) or self._ring_now(anew=True).find(kid, now)
        if key is None:
            raise ValueError("signed with a key that is not here")
        return key


class _Checked(NamedTuple):
    """A token that was checked: what it says, and from when to when it holds, in seconds since the epoch."""

    claims: Claims
    begins: int
    ends: int


class _StrictJWT(jwt.PyJWT):
    """The library, but for a payload that parsers could read in two ways: it reads as the last one of equal names."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        payload: dict[str, Any] = _strict_json(decoded["payload"])
        if not isinstance(payload, dict):
            raise jwt.DecodeError("not an object")
        return payload


def _strict_json(text: bytes) -> Any:
    """Read JSON; raises ValueError for a name that is given twice."""
    return json.loads(text, object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("a name is given twice")
    return named


def _claims(payload: dict[str, Any]) -> Claims:
    begins, since, ends, version = (payload[name] for name in ("iat", "nbf", "exp", "ver"))
    if any(type(number) is not int for number in (begins, since, ends, version)) or payload.get("typ") != TOKEN_TYPE:
        raise ValueError("not an access token of ours")
    if not begins <= since < ends <= begins + LONGEST_LIFE_SECONDS:
        raise ValueError("lives longer than any token we give, or holds before it was given")
    _canonical_id(payload["jti"])
    return Claims(_canonical_id(payload["sub"]), version)


def _canonical_id(text: str) -> UUID:
    """Read an id as we write it: the library would take braces, and a URN, as well."""
    read = UUID(text)
    if str(read) != text:
        raise ValueError("not an id as we write it")
    return read


def new_refresh_token() -> str:
    """Draw an opaque refresh token of 256 bits."""
    return secrets.token_urlsafe(32)


def refresh_token_digest(token: str) -> bytes:
    """Digest a refresh token for storage; it is random, so a plain hash keeps it."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


class Cursors:
    """Places in a list, sealed so that a client can hand them back and cannot make or change them.

    Under a key of their own, derived from a secret that is never rotated: no rotation cuts a client's list short.
    """

    def __init__(self, secret: str) -> None:
        self._key = derive_key(secret, "cursor")

    def _serializer(self, name: str) -> URLSafeSerializer:
        # As it comes, the library signs with SHA-1.
        sha256_only = {"digest_method": sha256, "key_derivation": "hmac"}
        return URLSafeSerializer(self._key, salt=f"cursor:{name}", signer_kwargs=sha256_only)

    def seal(self, place: Any, *, of: str) -> str:
        """Seal a JSON value for one list of one reader, named by `of`."""
        sealed = self._serializer(of).dumps(place)
        return sealed if isinstance(sealed, str) else sealed.decode()

    def open(self, cursor: str, *, of: str) -> Any:
        """Open a cursor; raises Refusal (`validation_failed`) for one that was not sealed here for this list."""
        try:
            return self._serializer(of).loads(cursor)
        except (BadData, ValueError):
            raise Refusal(
                ErrorCode.VALIDATION_FAILED, field="query.cursor", detail="The cursor is none of this list."
            ) from None
