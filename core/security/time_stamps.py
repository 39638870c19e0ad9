"""Time stamps of RFC 3161: an authority signs that a digest existed at a time. DER by hand, as far as needed.

Only the request and the status of the answer are handled here. Whether the authority's signature holds is for the
person who checks it later, with `openssl ts -verify`.
"""

import secrets
from hashlib import sha256

MEDIA_TYPE = "application/timestamp-query"
LARGEST_ANSWER = 100_000

_SHA256 = bytes.fromhex("300d06096086480165030402010500")
"""AlgorithmIdentifier of SHA-256 (RFC 5754)."""
_INTEGER, _OCTETS, _SEQUENCE = 0x02, 0x04, 0x30
_WANT_CERTIFICATE = b"\x01\x01\xff"
_GRANTED = (b"\x00", b"\x01")
"""The statuses `granted` and `grantedWithMods`."""


class NotStamped(Exception):
    """The authority did not stamp the digest. The message is one line."""


def request(content: bytes) -> tuple[bytes, bytes]:
    """Make a request for a stamp on the SHA-256 of some content, and the nonce that the answer must repeat."""
    nonce = _der(_INTEGER, b"\x01" + secrets.token_bytes(8))
    imprint = _der(_SEQUENCE, _SHA256 + _der(_OCTETS, sha256(content).digest()))
    return _der(_SEQUENCE, _der(_INTEGER, b"\x01") + imprint + nonce + _WANT_CERTIFICATE), nonce


def require_stamp(answer: bytes, content: bytes, nonce: bytes) -> None:
    """Raise NotStamped unless an answer grants a stamp for this content and this request."""
    try:
        whole, rest = _read(answer, _SEQUENCE)
        status, token = _read(whole, _SEQUENCE)
        code, _ = _read(status, _INTEGER)
    except (IndexError, ValueError):
        raise NotStamped("the answer is not a time stamp") from None
    if rest or code not in _GRANTED:
        raise NotStamped(f"the authority refused, with status {code.hex()}")
    if _der(_OCTETS, sha256(content).digest()) not in token or nonce not in token:
        raise NotStamped("the stamp is for another request")


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(size))) + size + content


def _read(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Return the content of the first element, and what follows it. Raises ValueError or IndexError otherwise."""
    if data[0] != tag:
        raise ValueError("another tag")
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start])
    if len(data) < start + length:
        raise ValueError("cut off")
    return data[start : start + length], data[start + length :]
