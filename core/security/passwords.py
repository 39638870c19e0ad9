"""Password hashing, and the check that refuses passwords that are easily guessed."""

import re
import secrets
from collections.abc import Iterable
from typing import Any

from passlib.hash import bcrypt_sha256
from zxcvbn_rs_py import zxcvbn

from core.domain.errors import CommonError, Part, Refusal

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

    def choose(self, password: str, known: Iterable[str | None], part: Part = Part.PASSWORD) -> str:
        """Judge a new password, then hash it. Raises as `judge` does."""
        self.judge(password, known, part)
        return self.hash(password)

    def judge(self, password: str, known: Iterable[str | None], part: Part = Part.PASSWORD) -> None:
        """Raise Refusal (`validation_failed`, about `part`) if a new password is easy to guess.

        `known` is information about the user: e-mail address, name, bank.
        """
        if is_easily_guessed(password, known):
            raise Refusal(CommonError.VALIDATION_FAILED, about=part, detail=EASILY_GUESSED)

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
    """Return whether a password is among the first that an attacker with the knowledge of `about` would try.

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
