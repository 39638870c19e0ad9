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
from core.settings.key_lists import TokenKey
from core.token_keys import TokenKeys, TokenRing

ALGORITHM = "HS256"
ISSUER = "giro"
AUDIENCE = "giro-api"
TOKEN_TYPE = "access"
LONGEST_LIFE_SECONDS = 86_400


JUDGED = 24
"""Number of leading characters by which a password is judged. Judging them takes 1 ms, at worst 30 ms, during which
Python does nothing else. With 128 characters the worst case would be a second."""

MOST_WORDS = 20
"""Maximum number of words that are taken from a name or an address."""

LEAST_GUESSES = 10**8
"""Minimum number of guesses that an attacker must need. The authors of zxcvbn call this safe if hashing is slow."""


class Passwords:
    """Hashes passwords. It is slow on purpose: call it in a thread, never on an event loop or inside a unit of work.

    It uses `bcrypt_sha256` from passlib's maintained fork, which does not cut passwords at bcrypt's 72 bytes.
    """

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._scheme: Any = bcrypt_sha256.using(rounds=rounds)
        self._decoy = self._scheme.hash(secrets.token_urlsafe(16))

    def hash(self, password: str) -> str:
        """Hash a password."""
        hashed: str = self._scheme.hash(password)
        return hashed

    def choose(self, password: str, about: Iterable[str | None], field: str | None = None) -> str:
        """Judge a new password, then hash it. Raises as `judge` does."""
        self.judge(password, about, field)
        return self.hash(password)

    def judge(self, password: str, about: Iterable[str | None], field: str | None = None) -> None:
        """Raise Refusal (`validation_failed`, about `field`) if a new password is easy to guess.

        `about` is known information about the user: e-mail address, name, bank.
        """
        if is_easily_guessed(password, about):
            raise Refusal(ErrorCode.VALIDATION_FAILED, field=field, detail=EASILY_GUESSED)

    def verify(self, password: str, kept: str | None) -> bool:
        """Return whether a password matches a stored hash. None (an unknown user) takes the same time and gives False.

        A wrong password takes the same time as well, even if the hash is older than a raise of the cost. If the hash
        is older than a lowering of the cost, it takes longer.
        """
        if kept is None or not self._scheme.identify(kept):
            self._scheme.verify(password, self._decoy)
            return False
        matches = bool(self._scheme.verify(password, kept))
        if not matches:
            # Each of these hashes takes twice as long as the one before. Together they make up the missing time.
            for rounds in range(self._scheme.from_string(kept).rounds, self._rounds):
                self._scheme.using(rounds=rounds).hash(password)
        return matches

    def is_outdated(self, kept: str) -> bool:
        """Return whether a stored hash has another cost than new hashes."""
        return bool(self._scheme.needs_update(kept))


EASILY_GUESSED = (
    "The password is easily guessed. Use several unrelated words that have no connection with you. Avoid common "
    "passwords, repetitions, and sequences of keys or digits."
)


def is_easily_guessed(password: str, about: Iterable[str | None]) -> bool:
    """Return whether a password is among the first that an attacker who knows `about` would try.

    The library zxcvbn counts the guesses (Wheeler, USENIX Security 2016). It knows common passwords, words, names,
    dates, rows of keys and repetitions, also spelled with digits. Characters after the first `JUDGED` and words of
    `about` add no strength: a password must be strong without them.
    """
    known = _words(about)
    others = re.sub("|".join(map(re.escape, known)), "", password, flags=re.IGNORECASE) if known else password
    return zxcvbn(others[:JUDGED], known).guesses < LEAST_GUESSES


def _words(about: Iterable[str | None]) -> list[str]:
    """Return the texts of `about` and their single words, in lower case, at least three letters long, longest first."""
    texts = [text.lower() for text in about if text]
    words = {word for text in texts for word in (text, *re.split(r"[\W_]+", text)[:MOST_WORDS]) if len(word) > 2}
    return sorted(words, key=lambda word: (-len(word), word))


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
        self._jwt = _StrictJWT({"enforce_minimum_key_length": True})
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
        key = self._ring_now(anew=True).signing
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

    def _ring_now(self, *, anew: bool = False) -> TokenRing:
        """Return the current keys. If they have changed, forget the tokens that were checked with the old ones."""
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
        """Find the key that a token's header names. Raises ValueError if the header is not exactly as we write it.

        So a header cannot ask for another algorithm, bring its own key (`jwk`, `x5c`) or have one fetched (`jku`,
        `x5u`).
        """
        parts = _TOKEN.fullmatch(token) if len(token) <= LONGEST_TOKEN else None
        if parts is None:
            raise ValueError("the token does not have the form of Giro's tokens")
        header = _strict_json(base64url_decode(parts[1]))
        kid = header.get("kid") if isinstance(header, dict) else None
        if not isinstance(kid, str) or header != {"alg": ALGORITHM, "typ": "JWT", "kid": kid}:
            raise ValueError("the header is not one that Giro writes")
        now = now_us() // 1_000_000
        key = self._ring.find(kid, now) or self._ring_now(anew=True).find(kid, now)
        if key is None:
            raise ValueError("the token is signed with an unknown key")
        return key


class _Checked(NamedTuple):
    """A checked token: its claims, and the start and end of its validity in seconds since the epoch."""

    claims: Claims
    begins: int
    ends: int


class _StrictJWT(jwt.PyJWT):
    """The library's decoder, except that it rejects a payload with duplicate names, which parsers read differently."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        payload: dict[str, Any] = _strict_json(decoded["payload"])
        if not isinstance(payload, dict):
            raise jwt.DecodeError("not an object")
        return payload


def _strict_json(text: bytes) -> Any:
    """Read JSON. Raises ValueError if a name occurs twice."""
    return json.loads(text, object_pairs_hook=_distinct)


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


class Cursors:
    """Seals positions in a list, so that a client can send them back but cannot make or change them.

    Cursors have their own key. It is derived from a secret that is never rotated, so a rotation never interrupts a
    client that pages through a list.
    """

    def __init__(self, secret: str) -> None:
        self._key = derive_key(secret, "cursor")

    def _serializer(self, name: str) -> URLSafeSerializer:
        # By default the library signs with SHA-1.
        sha256_only = {"digest_method": sha256, "key_derivation": "hmac"}
        return URLSafeSerializer(self._key, salt=f"cursor:{name}", signer_kwargs=sha256_only)

    def seal(self, place: Any, *, of: str) -> str:
        """Seal a JSON value for one list of one user; `of` names both."""
        sealed = self._serializer(of).dumps(place)
        return sealed if isinstance(sealed, str) else sealed.decode()

    def open(self, cursor: str, *, of: str) -> Any:
        """Open a cursor. Raises Refusal (`validation_failed`) if it was not sealed here for this list."""
        try:
            return self._serializer(of).loads(cursor)
        except (BadData, ValueError):
            raise Refusal(
                ErrorCode.VALIDATION_FAILED, field="query.cursor", detail="The cursor does not belong to this list."
            ) from None
