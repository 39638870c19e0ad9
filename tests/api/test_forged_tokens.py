"""Access tokens that must be rejected: forged, defective, or made for another purpose. All get the same answer."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.api.conftest import Api, Person, masked, refused
from tests.conftest import JWT_SECRET

HEADER: dict[str, Any] = {"alg": "HS256", "kid": "1", "typ": "JWT"}
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
PUBLIC_JWK = jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True)


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def signed(
    header: Any, payload: Any, key: str | bytes = JWT_SECRET, digest: Callable[..., Any] = hashlib.sha256
) -> str:
    """Sign a token with our key, without the library's checks: objects become JSON, and text stays as it is."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    text = ".".join(map(encoded, parts))
    secret = key if isinstance(key, bytes) else key.encode()
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), digest))}"


@dataclass(frozen=True)
class Good:
    """The parts of a token that would be accepted."""

    payload: dict[str, Any]
    refresh_token: str

    @property
    def now(self) -> int:
        """The time when it was issued."""
        now: int = self.payload["iat"]
        return now

    @property
    def token(self) -> str:
        return signed(HEADER, self.payload)

    def headed(self, **changed: Any) -> str:
        """A token with another header, signed with our key (None: field left out)."""
        return signed({name: value for name, value in (HEADER | changed).items() if value is not None}, self.payload)

    def saying(self, **changed: Any) -> str:
        """A token with other claims, signed with our key."""
        return signed(HEADER, self.payload | changed)

    def without(self, claim: str) -> str:
        return signed(HEADER, {name: value for name, value in self.payload.items() if name != claim})

    def raw(self, old: str, new: str) -> str:
        """A token with JSON that no encoder writes, signed with our key."""
        text = json.dumps(self.payload)
        assert text.count(old) == 1, text
        return signed(HEADER, text.replace(old, new).encode("utf-8", "surrogatepass"))

    def part(self, number: int) -> str:
        return self.token.split(".")[number]

    def rsa(self, **header: Any) -> str:
        return jwt.encode(self.payload, RSA_KEY, algorithm="RS256", headers={"kid": "1", **header})


def same_bytes_otherwise(signature: str) -> str:
    """Encode the same signature in another way: the last two bits of its 43 characters are ignored."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = signature[:-1] + alphabet[alphabet.index(signature[-1]) + 1]
    assert base64.urlsafe_b64decode(other + "=") == base64.urlsafe_b64decode(signature + "=")
    return other


FORGED: dict[str, Callable[[Good], str | bytes]] = {
    # --- the algorithm ---
    "no algorithm and no signature": lambda good: f"{encoded(b'{"alg":"none","typ":"JWT","kid":"1"}')}.{good.part(1)}.",
    "no algorithm, and the good signature": lambda good: (
        f"{encoded(b'{"alg":"none","typ":"JWT","kid":"1"}')}.{good.part(1)}.{good.part(2)}"
    ),
    "no algorithm, spelled otherwise": lambda good: good.headed(alg="nOnE"),
    "the algorithm left out": lambda good: good.headed(alg=None),
    "a list of algorithms": lambda good: good.headed(alg=["HS256"]),
    "HS384 with our key": lambda good: signed(HEADER | {"alg": "HS384"}, good.payload, digest=hashlib.sha384),
    "HS512 with our key": lambda good: signed(HEADER | {"alg": "HS512"}, good.payload, digest=hashlib.sha512),
    "HS256, and signed with SHA-512": lambda good: signed(HEADER, good.payload, digest=hashlib.sha512),
    "RS256 with a key of one's own": lambda good: good.rsa(),
    "RS256 said, and HMAC with our key": lambda good: good.headed(alg="RS256"),
    "HMAC with a public key": lambda good: signed(HEADER, good.payload, PUBLIC_PEM),
    # --- the key ---
    "another key": lambda good: signed(HEADER, good.payload, "another key of at least 32 bytes, all the same"),
    "an empty key": lambda good: signed(HEADER, good.payload, ""),
    "a version of the key that is not here": lambda good: good.headed(kid="2"),
    "no version of the key": lambda good: good.headed(kid=None),
    "a version that is a number": lambda good: good.headed(kid=1),
    "a version that is a list": lambda good: good.headed(kid=["1"]),
    "a version that is an object": lambda good: good.headed(kid={"1": "1"}),
    "a version that is a path": lambda good: signed(HEADER | {"kid": "../../../../dev/null"}, good.payload, ""),
    "a version that is SQL": lambda good: good.headed(kid="1' OR '1'='1"),
    "a version with a zero in front": lambda good: good.headed(kid="01"),
    "a version with a line end": lambda good: good.headed(kid="1\n"),
    "a version in other digits": lambda good: good.headed(kid="١"),
    "a version that is very long": lambda good: good.headed(kid="9" * 5000),
    # --- the header ---
    "a key in the header (jwk)": lambda good: good.rsa(jwk=PUBLIC_JWK),
    "a key to be fetched (jku)": lambda good: good.rsa(jku="http://127.0.0.1:9/keys.json"),
    "a certificate to be fetched (x5u)": lambda good: good.rsa(x5u="http://127.0.0.1:9/certificate.pem"),
    "jwk beside our own signature": lambda good: good.headed(jwk=PUBLIC_JWK),
    "jku beside our own signature": lambda good: good.headed(jku="http://127.0.0.1:9/keys.json"),
    "x5u beside our own signature": lambda good: good.headed(x5u="file:///etc/passwd"),
    "x5c beside our own signature": lambda good: good.headed(x5c=["MIIB"]),
    "crit that nobody knows": lambda good: good.headed(crit=["exp"]),
    "a payload that is not encoded (b64)": lambda good: good.headed(b64=False, crit=["b64"]),
    "another type of token": lambda good: good.headed(typ="at+jwt"),
    "no type of token": lambda good: good.headed(typ=None),
    "a header that says two things": lambda good: signed(
        b'{"alg":"none","alg":"HS256","kid":"1","typ":"JWT"}', good.payload
    ),
    "a header that is a list": lambda good: signed([HEADER], good.payload),
    "a header that is no JSON": lambda good: signed(b'{"alg"', good.payload),
    # --- the claims ---
    **{
        f"{claim} left out": lambda good, claim=claim: good.without(claim)
        for claim in ("exp", "iat", "nbf", "iss", "aud", "sub", "jti", "typ", "ver")
    },
    "expired": lambda good: good.saying(iat=good.now - 1000, nbf=good.now - 1000, exp=good.now - 100),
    "an end beyond every number": lambda good: good.raw(f'"exp": {good.payload["exp"]}', '"exp": 1e400'),
    "an end that is no number": lambda good: good.raw(f'"exp": {good.payload["exp"]}', '"exp": NaN'),
    "an end of a thousand digits": lambda good: good.saying(exp=10**400),
    "an end that is a text": lambda good: good.saying(exp=str(good.now + 900)),
    "an end that is true": lambda good: good.saying(exp=True),
    "an end that is a fraction": lambda good: good.saying(exp=good.now + 900.5),
    "an end before 1970": lambda good: good.saying(exp=-1),
    "no end": lambda good: good.saying(exp=None),
    "issued in the future": lambda good: good.saying(iat=good.now + 300),
    "issued before 1970": lambda good: good.saying(iat=-1, exp=good.now + 900),
    "good in the future": lambda good: good.saying(nbf=good.now + 300),
    "good before it was issued": lambda good: good.saying(nbf=good.now - 86_400),
    "too long a life": lambda good: good.saying(exp=good.now + 86_400 + 600),
    "another issuer": lambda good: good.saying(iss="other"),
    "another audience": lambda good: good.saying(aud="other"),
    "an audience of several": lambda good: good.saying(aud=["giro-api", "other"]),
    "another type of claims": lambda good: good.saying(typ="refresh"),
    "another version of the user's tokens": lambda good: good.saying(ver=1),
    "a version below 0": lambda good: good.saying(ver=-1),
    "a version that is false": lambda good: good.saying(ver=False),
    "nobody's": lambda good: good.saying(sub=str(uuid4())),
    "a subject in capitals": lambda good: good.saying(sub=good.payload["sub"].upper()),
    "a subject in braces": lambda good: good.saying(sub=f"{{{good.payload['sub']}}}"),
    "a subject that is a number": lambda good: good.saying(sub=2),
    "a subject with a NUL behind": lambda good: good.saying(sub=f"{good.payload['sub']}\0"),
    "a subject with half a character": lambda good: good.saying(sub="\ud800"),
    "an invalid id": lambda good: good.saying(jti="1"),
    "a claim said twice": lambda good: good.raw('"ver": 0', '"ver": 1, "ver": 0'),
    "claims that are no text": lambda good: signed(HEADER, b"\xff\xfe{}"),
    "claims that are a list": lambda good: signed(HEADER, [good.payload]),
    "claims nested without end": lambda good: signed(HEADER, b"[" * 5000),
    # --- the encoding ---
    "the refresh token": lambda good: good.refresh_token,
    "the last character cut off": lambda good: good.token[:-1],
    "the signature cut off": lambda good: good.token.rpartition(".")[0],
    "an empty signature": lambda good: f"{good.token.rpartition('.')[0]}.",
    "the same signature, encoded otherwise": lambda good: (
        f"{good.part(0)}.{good.part(1)}.{same_bytes_otherwise(good.part(2))}"
    ),
    "the signature padded": lambda good: f"{good.token}=",
    "the signature of another token": lambda good: (
        f"{good.part(0)}.{good.part(1)}.{good.saying(ver=9).rpartition('.')[2]}"
    ),
    "the claims changed": lambda good: (
        f"{good.part(0)}.{encoded(json.dumps(good.payload | {'ver': 1}).encode())}.{good.part(2)}"
    ),
    "the claims encoded otherwise": lambda good: (
        f"{good.part(0)}.{encoded(json.dumps(good.payload, indent=1).encode())}.{good.part(2)}"
    ),
    "a space inside": lambda good: f"{good.token[:60]} {good.token[60:]}",
    "a character that decoders pass over": lambda good: f"{good.token[:60]}!{good.token[60:]}",
    "a part too many": lambda good: f"{good.token}.{good.part(2)}",
    "a token of encryption": lambda good: ".".join([good.part(0)] * 5),
    "two tokens": lambda good: f"{good.token}, Bearer {good.token}",
    "letters outside ASCII": lambda good: f"{good.token}ü".encode(),
    "half a character": lambda good: good.token.encode() + b"\xed\xa0\x80",
    "nothing but dots": lambda _good: "....",
    "15 KB of it": lambda good: good.saying(more="x" * 11_000),
    "15 KB of nothing": lambda _good: "x" * 15_000,
}


@pytest.fixture
async def ada(api: Api) -> Person:
    return await api.sign_up("ada")


@pytest.fixture
def good(ada: Person) -> Good:
    """The claims that a log-in would give Ada."""
    claims, now = jwt.decode(ada.token, options={"verify_signature": False}), int(time.time())
    return Good(
        {"iss": "giro", "aud": "giro-api", "sub": claims["sub"], "jti": str(uuid4()), "typ": "access", "ver": 0}
        | {"iat": now, "nbf": now, "exp": now + 900},
        ada.refresh_token,
    )


@pytest.fixture
async def refusal(api: Api) -> httpx2.Response:
    """The answer to a request without a token."""
    answer = await api.client.get("/users/me")
    refused(answer, 401, "unauthenticated")
    return answer


def same(answer: httpx2.Response, refusal: httpx2.Response) -> bool:
    """Return whether two answers are equal, including their headers, except for the request id."""
    headers = [{**found.headers, "x-request-id": "-"} for found in (answer, refusal)]
    return masked(answer) == masked(refusal) and headers[0] == headers[1] and answer.status_code == refusal.status_code


async def with_token(api: Api, token: str | bytes) -> httpx2.Response:
    value = token if isinstance(token, bytes) else token.encode()
    return await api.client.get("/users/me", headers=[(b"Authorization", b"Bearer " + value)])


async def test_a_valid_token_made_by_these_helpers_is_accepted(api: Api, good: Good) -> None:
    """Without this, all the others could be rejected for another reason."""
    for token in (good.token, good.saying(more="x" * 100), good.headed()):
        assert (await with_token(api, token)).status_code == 200


async def test_forged_tokens_are_all_rejected_with_the_same_answer(
    api: Api, ada: Person, good: Good, refusal: httpx2.Response
) -> None:
    answers = {how: await with_token(api, forge(good)) for how, forge in FORGED.items()}
    assert [how for how, answer in answers.items() if not same(answer, refusal)] == []
    assert refusal.headers["www-authenticate"] == "Bearer"
    assert (await ada.get("/users/me")).status_code == 200


def test_more_than_ninety_forgeries_are_tried() -> None:
    assert len(FORGED) > 90


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer x.y.z",
        "Basic YWRhOmNvcnJlY3Q=",
        "Token {token}",
        "{token}",
        "Bearer{token}",
        "Bearer {token}x",
        "Bearer {token}, Bearer {token}",
        b"Bearer \xff\xfe",
    ],
    ids=repr,
)
async def test_a_malformed_header_gets_the_same_answer(
    api: Api, good: Good, refusal: httpx2.Response, header: str | bytes
) -> None:
    if isinstance(header, str):
        header = header.format(token=good.token).encode()
    answer = await api.client.get("/users/me", headers=[(b"Authorization", header)])
    assert same(answer, refusal)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
async def test_the_scheme_is_case_insensitive(api: Api, good: Good, scheme: str) -> None:
    answer = await api.client.get("/users/me", headers={"Authorization": f"{scheme} {good.token}"})
    assert answer.status_code == 200


async def test_a_deactivated_users_token_gets_the_same_answer_at_once(
    ada: Person, database: Database, refusal: httpx2.Response
) -> None:
    assert (await ada.get("/users/me")).status_code == 200
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE users SET is_active = 0 WHERE email = ?", (ada.email,))
    assert same(await ada.get("/users/me"), refusal)


async def test_the_leeway_of_a_token_ends_with_a_log_out(
    api: Api, ada: Person, good: Good, refusal: httpx2.Response
) -> None:
    now = int(time.time())
    just_ended = good.saying(iat=now - 900, nbf=now - 900, exp=now - 5)
    assert (await with_token(api, just_ended)).status_code == 200
    assert (await ada.post("/logout")).status_code == 204
    assert same(await with_token(api, just_ended), refusal)
