"""Passwords: hashing, verification, and rejection of those that are easily guessed."""

import time
from statistics import median
from typing import Any

import pytest

from core.domain.errors import CommonError, Part, Refusal
from core.security.passwords import Passwords, is_easily_guessed


@pytest.fixture(scope="module")
def passwords() -> Passwords:
    return Passwords(rounds=4)


@pytest.mark.parametrize(
    "password",
    ["correct horse battery", "päßwörter mit Umlauten", "x" * 128, "🐎" * 64, "nul \x00 inside it", " " * 12],
)
def test_a_password_matches_its_own_hash_only(passwords: Passwords, password: str) -> None:
    kept = passwords.hash(password)
    assert passwords.verify(password, kept)
    assert not passwords.verify(password + "x", kept)
    assert not passwords.verify(password[:-1], kept)
    assert password not in kept


def test_a_password_is_not_truncated_at_72_bytes(passwords: Passwords) -> None:
    long = "x" * 72
    kept = passwords.hash(long + "a")
    assert passwords.verify(long + "a", kept)
    assert not passwords.verify(long + "b", kept)
    assert not passwords.verify(long, kept)


def test_the_same_password_never_has_the_same_hash_twice(passwords: Passwords) -> None:
    assert passwords.hash("correct horse battery") != passwords.hash("correct horse battery")


class Counting:
    """A hash scheme that counts its verifications, so that tests compare costs without a clock."""

    def __init__(self, scheme: Any) -> None:
        self._scheme = scheme
        self.verified = 0

    def verify(self, password: str, kept: str) -> bool:
        self.verified += 1
        return bool(self._scheme.verify(password, kept))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheme, name)


@pytest.mark.parametrize("kept", [None, "!", "", "plain text", "$2b$12$" + "x" * 53])
def test_a_password_without_a_valid_hash_is_wrong_and_costs_one_hash(kept: str | None) -> None:
    passwords = Passwords(rounds=4)
    passwords._scheme = counting = Counting(passwords._scheme)
    assert not passwords.verify("correct horse battery", kept)
    assert counting.verified == 1


def test_a_password_with_a_valid_hash_costs_one_hash_as_well() -> None:
    passwords = Passwords(rounds=4)
    kept = passwords.hash("correct horse battery")
    passwords._scheme = counting = Counting(passwords._scheme)
    assert passwords.verify("correct horse battery", kept)
    assert counting.verified == 1


@pytest.mark.parametrize(("kept_rounds", "rounds", "outdated"), [(4, 4, False), (4, 5, True), (5, 4, True)])
def test_a_hash_is_outdated_when_new_ones_have_another_cost(kept_rounds: int, rounds: int, outdated: bool) -> None:
    assert Passwords(rounds).is_outdated(Passwords(kept_rounds).hash("correct horse battery")) is outdated


def test_the_hash_of_the_bank_user_matches_no_password(passwords: Passwords) -> None:
    assert not passwords.verify("!", "!")


def test_a_wrong_password_takes_as_long_for_a_known_user_as_for_an_unknown_one() -> None:
    """Compares medians of CPU time, measured in turns; takes the best of a few tries, as the machine has other work."""
    passwords, before = Passwords(rounds=8), Passwords(rounds=7)
    kinds = {
        "known": passwords.hash("correct horse battery"),
        "unknown or deactivated": None,
        "known since before the cost was raised": before.hash("correct horse battery"),
    }
    spread = 1.0
    for _ in range(5):
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(7):
            for kind, kept in kinds.items():
                begin = time.thread_time()
                assert not passwords.verify("wrong horse battery", kept)
                times[kind].append(time.thread_time() - begin)
        medians = [median(taken) for taken in times.values()]
        spread = min(spread, max(medians) / min(medians) - 1)
        if spread < 0.05:
            break
    assert spread < 0.05, times


# --- easily guessed passwords ---

ABOUT_ADA = ("Ada.King@example.com", "Ada Lovelace", "Giro")


@pytest.mark.parametrize(
    "password",
    [
        "passwordpassword",
        "Password1234!",
        "P@ssw0rd1234",
        "Welcome12345",
        "letmeinletmein",
        "trustno1trustno1",
        "iloveyou1234",
        "football1989",
        "administrator",
        "aaaaaaaaaaaa",
        "ääääääääääää",
        " " * 12,
        "🐎" * 64,
        "abcabcabcabc",
        "abcdefghijkl",
        "1234567890123",
        "qwertyuiop[]",
        "zxcvbnm,./12",
        "1qaz2wsx3edc",
        "x" * 128,
        "ada.king@example.com",
        "ADA.KING@EXAMPLE.COM!",
        "AdaLovelace1",
        "adalovelace!!",
        "lovelace-ada-2026",
        "L0vel4ce!1815",
        "iloveada1815",
        "example.com12",
        "girogirogiro",
        "x" * 24 + "kT9$vLq2#zWp",
    ],
)
def test_an_easily_guessed_password_is_rejected(passwords: Passwords, password: str) -> None:
    with pytest.raises(Refusal) as refused:
        passwords.choose(password, ABOUT_ADA)
    assert (refused.value.code, refused.value.about) == (CommonError.VALIDATION_FAILED, Part.PASSWORD)
    assert "easily guessed" in refused.value.detail
    assert password not in refused.value.detail


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "staple and a horse",
        "tricky-lamp-orbit",
        "I am the one who knocks",
        "päßwörter mit Umlauten",
        "ada likes purple trucks",
        "kT9$vLq2#zWp",
        "kT9$vLq2#zWp" + "x" * 100,
    ],
)
def test_a_good_password_is_accepted(passwords: Passwords, password: str) -> None:
    assert passwords.verify(password, passwords.choose(password, (*ABOUT_ADA, None)))


def test_the_users_own_words_do_not_make_a_password_strong_at_any_length() -> None:
    email = "augusta.ada.king-noel.countess.of.lovelace@example.com"
    assert is_easily_guessed(email, (email,))
    assert is_easily_guessed(f"{email}1852", (email,))
    assert not is_easily_guessed(email, ("grace@example.com",))


@pytest.mark.parametrize("about", [(), (None,), ("",), ("ab",), (".*", "(", "\\"), ("x " * 100,), ("\ud800",)])
def test_a_password_can_be_checked_with_any_name(about: tuple[str | None, ...]) -> None:
    assert is_easily_guessed("passwordpassword", about)
    assert not is_easily_guessed("correct horse battery", about)


def test_checking_the_longest_password_is_fast() -> None:
    """Digits and signs that stand for several letters each take longest: a whole second without a limit."""
    begin = time.thread_time()
    is_easily_guessed(("4@({[<691!|7$5+" * 9)[:128], ABOUT_ADA)
    assert time.thread_time() - begin < 0.25
