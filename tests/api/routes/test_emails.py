"""E-mail addresses: one form at sign-up and at log-in, and addresses for tests only where they are allowed."""

import pytest

from core.services.identity.emails import is_for_tests, looked_up, normalised
from tests.api.conftest import PASSWORD, Api, Start, refused

SPELLINGS = (
    "Jürgen.Müller@bücher.example.com",
    "JÜRGEN.MÜLLER@BÜCHER.EXAMPLE.COM",
    "ju\u0308rgen.mu\u0308ller@bu\u0308cher.example.com",
    "jürgen.müller@xn--bcher-kva.example.com",
    "  jürgen.müller@XN--BCHER-KVA.Example.Com\t",
    "jürgen.müller@ｂücher.example.com",
)


async def sign_up(api: Api, email: str) -> int:
    answer = await api.client.post("/signup", json={"email": email, "password": PASSWORD})
    if answer.status_code == 422:
        refused(answer, 422, "validation_failed", "body.email")
    return answer.status_code


async def log_in(api: Api, email: str, password: str = PASSWORD) -> int:
    return (await api.client.post("/login", data={"username": email, "password": password})).status_code


@pytest.mark.parametrize("signed_up", SPELLINGS, ids=ascii)
async def test_an_address_logs_in_in_every_spelling_that_signs_up_as_the_same(api: Api, signed_up: str) -> None:
    assert await sign_up(api, signed_up) == 201
    for spelling in SPELLINGS:
        assert await sign_up(api, spelling) == 409, spelling
        assert await log_in(api, spelling) == 200, spelling


async def test_all_spellings_have_one_count_of_failures(start: Start) -> None:
    async with start() as api:
        assert await sign_up(api, SPELLINGS[0]) == 201
        answers = [await log_in(api, SPELLINGS[n % len(SPELLINGS)], "a wrong password") for n in range(30)]
        assert 429 in answers


@pytest.mark.parametrize("email", ["ada@giro.test", "ada@printer.local", "ada@localhost", "ada@a.localhost", "a@TEST"])
async def test_an_address_for_tests_signs_up_only_if_that_is_allowed(start: Start, email: str) -> None:
    async with start() as api:
        answer = await api.client.post("/signup", json={"email": email, "password": PASSWORD})
        refused(answer, 422, "validation_failed", "body.email")
        assert "GIRO_ALLOW_TEST_EMAILS" in answer.json()["detail"]
    async with start(allow_test_emails=True) as api:
        assert await sign_up(api, email) == 201
        assert await log_in(api, email.upper()) == 200
    async with start() as api:
        assert await log_in(api, email) == 200, "the users of a trial are not locked out"


@pytest.mark.parametrize(
    "email", ["ada@erased.invalid", "ada@hidden.onion", "ada@example", "ada@a.test.", "x", "@test"]
)
async def test_an_address_of_another_special_domain_never_signs_up(start: Start, email: str) -> None:
    async with start(allow_test_emails=True) as api:
        assert await sign_up(api, email) == 422


def test_a_text_that_is_no_address_is_looked_up_as_it_is() -> None:
    assert looked_up(" NOBODY ") == "nobody"
    assert not is_for_tests("ada@mytest.com")
    with pytest.raises(ValueError, match="not a valid email address"):
        normalised("Ada <ada@example.com>")
