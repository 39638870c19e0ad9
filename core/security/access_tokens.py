"""Access tokens and refresh tokens."""

import json
import re
import secrets
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

import jwt

from core.clock import now_us
from core.domain.errors import CommonError, Refusal
from core.ids import new_id
from core.security.token_keys import TokenKeys, TokenRing
from core.settings.key_lists import TokenKey

ALGORITHM = "HS256"
ISSUER = "giro"
AUDIENCE = "giro-api"
TOKEN_TYPE = "access"
LONGEST_LIFE_SECONDS = 86_400
LEEWAY_SECONDS = 30
"""How long before its start and after its end a token is still accepted. A clock that was a little ahead when the token
was issued, or that NTP has corrected since, ends nobody's session. It is below the margin for which an older key is
accepted (core/security/token_keys.py), and shortens nothing else: a log-out still acts at once."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of an access token: its user, and the user's token version when it was issued."""

    user_id: UUID
    token_version: int


MOST_CHECKED = 10_000
"""Maximum number of tokens that are remembered as checked, a few hundred bytes each. Above it, all are forgotten and
checked again."""

LONGEST_TOKEN = 1024
"""Maximum length in characters. Our tokens have about 430."""

_TOKEN = re.compile(r"([\w-]{1,100})\.[\w-]+\.[\w-]{43}", re.ASCII)
"""Header, payload, and a signature of 32 bytes."""


class AccessTokens:
    """Issues and checks signed access tokens (RFC 7519, RFC 8725), with one algorithm and a ring of keys."""

    def __init__(self, keys: TokenKeys, *, seconds: int) -> None:
        self.seconds = seconds
        self._keys = keys
        self._ring = keys.ring()
        self._jwt = jwt.PyJWT({"enforce_minimum_key_length": True})
        self._checked: dict[str, _Checked] = {}

    def issue(self, claims: Claims) -> str:
        """Make a token that is valid for `seconds` from now, signed with the newest key."""
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
        key = self._ring_now(refresh=True).signing
        return self._jwt.encode(payload, key.secret, algorithm=ALGORITHM, headers={"kid": key.kid})

    def read(self, token: str) -> Claims:
        """Check a token and return its claims. Raises Refusal (`unauthenticated`) if anything is wrong with it.

        For a token that was checked before, only the time is checked: its text and its key are the same.
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

    def _ring_now(self, *, refresh: bool = False) -> TokenRing:
        """Return the current keys. If they have changed, forget the tokens that were checked with the old ones."""
        ring = self._keys.ring(refresh=refresh)
        if ring is not self._ring:
            self._checked.clear()
            self._ring = ring
        return ring

    def _check(self, token: str) -> "_Checked":
        try:
            key = self._key_of(token)
            self._jwt.decode(
                token,
                key.secret,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "nbf", "iss", "aud", "sub", "jti"], "strict_aud": True},
            )
            payload = _json_in(token.split(".")[1])  # the library accepts names that occur twice
            claims = _claims(payload)
        except (jwt.PyJWTError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise Refusal(CommonError.UNAUTHENTICATED) from None
        ends = payload["exp"] + LEEWAY_SECONDS
        ends = ends if key.until is None else min(ends, key.until)
        return _Checked(claims, payload["nbf"] - LEEWAY_SECONDS, ends)

    def _key_of(self, token: str) -> TokenKey:
        """Find the key that a token's header names. Raises ValueError if the header is not exactly as we write it.

        So a header cannot ask for another algorithm, bring its own key (`jwk`, `x5c`) or have one fetched (`jku`,
        `x5u`).
        """
        parts = _TOKEN.fullmatch(token) if len(token) <= LONGEST_TOKEN else None
        if parts is None:
            raise ValueError("the token does not have the form of Giro's tokens")
        header = _json_in(parts[1])
        kid = header.get("kid") if isinstance(header, dict) else None
        if not isinstance(kid, str) or header != {"alg": ALGORITHM, "typ": "JWT", "kid": kid}:
            raise ValueError("the header is not one that Giro writes")
        now = now_us() // 1_000_000
        key = self._ring.find(kid, now) or self._ring_now(refresh=True).find(kid, now)
        if key is None:
            raise ValueError("the token is signed with an unknown key")
        return key


class _Checked(NamedTuple):
    """A checked token: its claims, and from when until when it is accepted, in seconds since the epoch."""

    claims: Claims
    begins: int
    ends: int


def _json_in(part: str) -> Any:
    """Read the JSON in a part of a token. Raises ValueError if a name occurs twice: parsers differ about it."""
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)), object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("a name occurs twice")
    return named


def _claims(payload: dict[str, Any]) -> Claims:
    begins, since, ends, version = (payload[name] for name in ("iat", "nbf", "exp", "ver"))
    if any(type(number) is not int for number in (begins, since, ends, version)) or payload.get("typ") != TOKEN_TYPE:
        raise ValueError("the payload is not one that Giro writes")
    if not begins <= since < ends <= begins + LONGEST_LIFE_SECONDS:
        raise ValueError("the token is valid for too long, or before it was issued")
    _canonical_id(payload["jti"])
    return Claims(_canonical_id(payload["sub"]), version)


def _canonical_id(text: str) -> UUID:
    """Read an id in the form that Giro writes. UUID() would also accept braces and a URN."""
    read = UUID(text)
    if str(read) != text:
        raise ValueError("the id is not in canonical form")
    return read


def new_refresh_token() -> str:
    """Make an opaque, random refresh token of 256 bits."""
    return secrets.token_urlsafe(32)


def refresh_token_digest(token: str) -> bytes:
    """Digest a refresh token for storage. The token is random, so a plain hash is safe."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
