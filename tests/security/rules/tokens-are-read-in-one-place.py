# ruleid: tokens-are-read-in-one-place
import jwt

# ruleid: tokens-are-read-in-one-place
from jwt.algorithms import HMACAlgorithm

# ruleid: tokens-are-read-in-one-place
from jose import jws

# ok: tokens-are-read-in-one-place
from core.security.access_tokens import AccessTokens

ALGORITHM = "HS256"


def read(token, key, header, reader):
    # ruleid: tokens-are-read-under-pinned-algorithms
    jwt.decode(token, key)
    # ruleid: tokens-are-read-under-pinned-algorithms
    reader.decode(token, key, algorithms=[header["alg"]])
    # ruleid: tokens-are-read-under-pinned-algorithms
    reader.decode(token, key, algorithms=[ALGORITHM], options={"verify_signature": False})
    # ok: tokens-are-read-under-pinned-algorithms
    token.decode("utf-8", "replace")
    # ok: tokens-are-read-under-pinned-algorithms
    token.decode(errors="replace")
    # ok: tokens-are-read-under-pinned-algorithms
    reader.decode(token, key, algorithms=[ALGORITHM], issuer="giro")
