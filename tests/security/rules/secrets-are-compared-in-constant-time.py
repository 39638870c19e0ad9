import hmac
from hashlib import sha256


def check(kept, sent, request, key, session, user, select, RefreshToken):
    # ruleid: secrets-are-compared-in-constant-time
    if kept.password == sent:
        return True
    # ruleid: secrets-are-compared-in-constant-time
    if sha256(sent).hexdigest() != kept:
        return False
    # ruleid: secrets-are-compared-in-constant-time
    if request.token == kept:
        return True
    # ruleid: secrets-are-compared-in-constant-time
    if kept == refresh_token_digest(sent):
        return True
    # ruleid: secrets-are-compared-in-constant-time
    if sent != key.jwt_secret:
        return False
    # ok: secrets-are-compared-in-constant-time
    if user.token_version != session.token_version:
        return False
    # ok: secrets-are-compared-in-constant-time
    select(RefreshToken).where(RefreshToken.digest == kept)
    # ok: secrets-are-compared-in-constant-time
    return hmac.compare_digest(kept.digest, sha256(sent).digest())
