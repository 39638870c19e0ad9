"""Passwords, tokens and sealed cursors."""

import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

import jwt
from itsdangerous import BadData, URLSafeSerializer
from passlib.hash import bcrypt_sha256

from core.clock import now_us
from core.domain.errors import ErrorCode, Refusal
from core.ids import new_id

ALGORITHM = "HS256"
ISSUER = "giro"
AUDIENCE = "giro-api"
TOKEN_TYPE = "access"
LONGEST_LIFE_SECONDS = 86_400


class Passwords:
    """Hashes of passwords. Slow on purpose: call it in a thread, never on an event loop or inside a unit of work.

    `bcrypt_sha256` of passlib's maintained fork: nothing is cut at bcrypt's 72 bytes.
    """

    def __init__(self, rounds: int) -> None:
        self._scheme: Any = bcrypt_sha256.using(rounds=rounds)
        self._nobody = self._scheme.hash(secrets.token_urlsafe(16))

    def hash(self, password: str) -> str:
        """Hash a new password."""
        hashed: str = self._scheme.hash(password)
        return hashed

    def verify(self, password: str, kept: str | None) -> bool:
        """Compare a password with its kept hash; None, for nobody, costs the same time and is False."""
        if kept is None or not self._scheme.identify(kept):
            self._scheme.verify(password, self._nobody)
            return False
        return bool(self._scheme.verify(password, kept))

    def is_outdated(self, kept: str) -> bool:
        """Say whether a kept hash costs less, or more, than new ones do."""
        return bool(self._scheme.needs_update(kept))


@dataclass(frozen=True, slots=True)
class Claims:
    """What an access token says: whose it is, and at which of the user's token versions it was given."""

    user_id: UUID
    token_version: int


MOST_CHECKED = 10_000
"""Tokens remembered as checked, some hundred bytes each; beyond, all are forgotten and checked anew."""


class AccessTokens:
    """Signed access tokens (RFC 7519) under one algorithm and one key."""

    def __init__(self, key: str, *, seconds: int) -> None:
        self.seconds = seconds
        self._key = key
        self._jwt = jwt.PyJWT({"enforce_minimum_key_length": True})
        self._checked: dict[str, _Checked] = {}

    def issue(self, claims: Claims) -> str:
        """Make a token that lives for `seconds` from now."""
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
        return self._jwt.encode(payload, self._key, algorithm=ALGORITHM)

    def read(self, token: str) -> Claims:
        """Check a token and return its claims; raises Refusal (`unauthenticated`) whatever is wrong with it.

        A token that was checked before is only held to its time: it is the same text under the same key.
        """
        known = self._checked.get(token)
        if known is not None and known.begins <= now_us() // 1_000_000 < known.ends:
            return known.claims
        checked = self._check(token)
        if len(self._checked) >= MOST_CHECKED:
            self._checked.clear()
        self._checked[token] = checked
        return checked.claims

    def _check(self, token: str) -> "_Checked":
        try:
            payload = self._jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                options={"require": ["exp", "iat", "nbf", "iss", "aud", "sub", "jti"]},
            )
            claims = _claims(payload)
            return _Checked(claims, max(payload["iat"], payload["nbf"]), payload["exp"])
        except (jwt.PyJWTError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise Refusal(ErrorCode.UNAUTHENTICATED) from None


class _Checked(NamedTuple):
    """A token that was checked: what it says, and from when to when it holds, in seconds since the epoch."""

    claims: Claims
    begins: int
    ends: int


def _claims(payload: dict[str, Any]) -> Claims:
    numbers = [payload[name] for name in ("iat", "nbf", "exp", "ver")]
    if any(type(number) is not int for number in numbers) or payload.get("typ") != TOKEN_TYPE:
        raise ValueError("not an access token of ours")
    if not 0 < payload["exp"] - payload["iat"] <= LONGEST_LIFE_SECONDS:
        raise ValueError("lives longer than any token we give")
    return Claims(UUID(payload["sub"]), payload["ver"])


def new_refresh_token() -> str:
    """Draw an opaque refresh token of 256 bits."""
    return secrets.token_urlsafe(32)


def refresh_token_digest(token: str) -> bytes:
    """Digest a refresh token for storage; it is random, so a plain hash keeps it."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


class Cursors:
    """Places in a list, sealed so that a client can hand them back and cannot make or change them."""

    def __init__(self, key: str) -> None:
        self._key = key

    def seal(self, place: Any, *, of: str) -> str:
        """Seal a JSON value for one list of one reader, named by `of`."""
        sealed = URLSafeSerializer(self._key, salt=f"cursor:{of}").dumps(place)
        return sealed if isinstance(sealed, str) else sealed.decode()

    def open(self, cursor: str, *, of: str) -> Any:
        """Open a cursor; raises Refusal (`validation_failed`) for one that was not sealed here for this list."""
        try:
            return URLSafeSerializer(self._key, salt=f"cursor:{of}").loads(cursor)
        except (BadData, ValueError):
            raise Refusal(
                ErrorCode.VALIDATION_FAILED, field="query.cursor", detail="The cursor is none of this list."
            ) from None
