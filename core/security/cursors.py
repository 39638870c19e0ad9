"""Positions in a list, signed so that a client can return them and cannot forge them."""

from hashlib import sha256

from itsdangerous import BadData, URLSafeSerializer

from core.domain.errors import CommonError, Part, Refusal
from core.security.derivation import derive_key


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

    def seal(self, place: int, *, of: str) -> str:
        """Seal a row id for one list of one user; `of` names both. Far fewer than 200 characters."""
        sealed = self._serializer(of).dumps(place)
        return sealed if isinstance(sealed, str) else sealed.decode()

    def open(self, cursor: str, *, of: str) -> int:
        """Open a cursor. Raises Refusal (`validation_failed`) if it was not sealed here for this list.

        The cursors of transfers of older releases hold more than a row id. They are refused too.
        """
        try:
            place = self._serializer(of).loads(cursor)
        except (BadData, ValueError):
            place = None
        if isinstance(place, int):
            return place
        raise Refusal(
            CommonError.VALIDATION_FAILED, about=Part.CURSOR, detail="The cursor does not belong to this list."
        )
