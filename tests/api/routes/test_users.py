"""Signing up, reading the caller's own user, and changing the password."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from core.security.passwords import Passwords
from core.storage.sqlite.engine import Database
from tests import builders
from tests.api.conftest import JSON, PASSWORD, Api, Person, refused, written


@pytest.fixture
async def ada(api: Api) -> Person:
    return await api.sign_up("ada")


@pytest.fixture
async def grace(api: Api) -> Person:
    return await api.sign_up("grace")


async def test_sign_up_makes_a_customer_and_returns_their_location(api: Api) -> None:
    body = {"email": "ada@example.com", "password": PASSWORD, "name": "Ada"}
    answer = await api.client.post("/signup", json=body)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/users/me"
    user = answer.json()
    assert user.keys() == {"id", "email", "name", "role", "is_active", "created_at"}
    assert (user["email"], user["name"], user["role"], user["is_active"]) == (
        "ada@example.com",
        "Ada",
        "customer",
        True,
    )
    assert UUID(user["id"]).version == 7
    assert user["created_at"].endswith("Z")


async def test_a_name_is_optional(api: Api) -> None:
    answer = await api.client.post("/signup", json={"email": "ada@example.com", "password": PASSWORD})
    assert answer.status_code == 201
    assert answer.json()["name"] is None


async def test_an_email_address_is_case_insensitive(api: Api) -> None:
    answer = await api.client.post("/signup", json={"email": "Ada.LOVELACE@Example.COM", "password": PASSWORD})
    assert answer.json()["email"] == "ada.lovelace@example.com"
    again = await api.client.post("/signup", json={"email": "ADA.lovelace@example.com", "password": PASSWORD})
    refused(again, 409, "email_taken", "body.email")
    for spelled in ("ada.lovelace@example.com", "ADA.LOVELACE@EXAMPLE.COM"):
        logged_in = await api.client.post("/login", data={"username": spelled, "password": PASSWORD})
        assert logged_in.status_code == 200


async def test_an_address_outside_ascii_is_case_insensitive_too(api: Api) -> None:
    answer = await api.client.post("/signup", json={"email": "ÄDA@example.com", "password": PASSWORD})
    assert answer.status_code == 201
    assert answer.json()["email"] == "äda@example.com"
    logged_in = await api.client.post("/login", data={"username": "ÄDA@example.com", "password": PASSWORD})
    assert logged_in.status_code == 200


async def test_only_one_of_many_concurrent_sign_ups_gets_an_address(api: Api) -> None:
    body = {"email": "ada@example.com", "password": PASSWORD}
    answers = await asyncio.gather(*(api.client.post("/signup", json=body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 3


@pytest.mark.parametrize(
    ("length", "status"), [(1, 422), (11, 422), (12, 201), (72, 201), (73, 201), (128, 201), (129, 422)]
)
async def test_a_password_has_12_to_128_characters(api: Api, length: int, status: int) -> None:
    password = ("äpfel, birnen und quitten " * 5)[:length]
    answer = await api.client.post("/signup", json={"email": "ada@example.com", "password": password})
    assert answer.status_code == status
    if status == 422:
        refused(answer, 422, "validation_failed", "body.password")
        assert "ä" not in answer.text
    else:
        await api.log_in("ada", password)


@pytest.mark.parametrize(
    ("name", "password"),
    [
        (None, "Password1234!"),
        (None, "qwertyuiop[]"),
        (None, "ada@example.com"),
        ("Ada Lovelace", "ada.lovelace1815"),
        (None, "giro-giro-2026"),
    ],
)
async def test_a_sign_up_rejects_a_password_that_is_easily_guessed(api: Api, name: str | None, password: str) -> None:
    answer = await api.client.post("/signup", json={"email": "ada@example.com", "name": name, "password": password})
    body = refused(answer, 422, "validation_failed", "body.password")
    assert "easily guessed" in body["errors"][0]["message"]
    assert password not in answer.text
    await api.sign_up("ada")


async def test_a_long_password_is_not_truncated(api: Api) -> None:
    long = ("four words that fit: " * 7)[:127]
    await api.sign_up("ada", long + "a")
    answer = await api.client.post("/login", data={"username": "ada@example.com", "password": long + "b"})
    refused(answer, 401, "unauthenticated")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "ada"),
        ("email", "ada@"),
        ("email", "ada@example"),
        ("email", "a" * 250 + "@example.com"),
        ("email", "ada@exa mple.com"),
        ("email", "ada\x00@example.com"),
        ("email", "ada\ud800@example.com"),
        ("email", None),
        ("email", 1),
        ("email", ["ada@example.com"]),
        ("password", "correct horse\x00battery"),
        ("password", "correct horse\nbattery"),
        ("password", "correct horse \ud800 battery"),
        ("password", None),
        ("password", 123456789012),
        ("name", ""),
        ("name", "A" * 201),
        ("name", "A\x00da"),
        ("name", "A\ud800da"),
        ("name", True),
        ("role", "operator"),
        ("is_active", True),
    ],
    ids=str,
)
async def test_a_sign_up_rejects_an_invalid_field(api: Api, field: str, value: Any) -> None:
    body = {"email": "ada@example.com", "password": PASSWORD, field: value}
    answer = await api.client.post("/signup", content=written(body), headers=JSON)
    refused(answer, 422, "validation_failed", f"body.{field}")


@pytest.mark.parametrize("field", ["email", "password"])
async def test_a_sign_up_needs_an_address_and_a_password(api: Api, field: str) -> None:
    body = {"email": "ada@example.com", "password": PASSWORD}
    del body[field]
    refused(await api.client.post("/signup", json=body), 422, "validation_failed", f"body.{field}")


async def test_a_user_can_read_their_own_profile(ada: Person) -> None:
    answer = await ada.get("/users/me")
    assert answer.status_code == 200
    assert answer.json()["email"] == "ada@example.com"
    assert answer.headers["cache-control"] == "private, no-cache"


async def test_no_answer_shows_a_password_or_its_hash(api: Api, database: Database) -> None:
    answer = await api.client.post("/signup", json={"email": "ada@example.com", "password": PASSWORD})
    kept = builders.rows(database, "SELECT password_hash FROM users WHERE email = 'ada@example.com'")[0]
    assert kept["password_hash"].startswith("$bcrypt-sha256$")
    assert PASSWORD not in answer.text
    assert "hash" not in answer.text


class TestChangingThePassword:
    async def test_ends_every_older_token_and_the_old_password(self, api: Api, ada: Person) -> None:
        elsewhere = await api.log_in("ada")
        body = {"current_password": PASSWORD, "new_password": "another horse battery"}
        answer = await ada.post("/users/me/password", body)
        assert answer.status_code == 204
        assert not answer.content
        for session in (ada, elsewhere):
            refused(await session.get("/users/me"), 401, "unauthenticated")
            spent = await api.client.post("/token/refresh", json={"refresh_token": session.refresh_token})
            refused(spent, 401, "unauthenticated")
        old = await api.client.post("/login", data={"username": ada.email, "password": PASSWORD})
        refused(old, 401, "unauthenticated")
        again = await api.log_in("ada", "another horse battery")
        assert (await again.get("/users/me")).status_code == 200

    async def test_needs_the_current_one(self, ada: Person) -> None:
        body = {"current_password": "wrong horse battery", "new_password": "another horse battery"}
        refused(await ada.post("/users/me/password", body), 401, "unauthenticated")
        assert (await ada.get("/users/me")).status_code == 200

    @pytest.mark.parametrize("new", ["passwordpassword", "ADA@example.com", "Lovelace1815"])
    async def test_rejects_one_that_is_easily_guessed(self, api: Api, new: str) -> None:
        body = {"email": "ada@example.com", "password": PASSWORD, "name": "Ada Lovelace"}
        assert (await api.client.post("/signup", json=body)).status_code == 201
        ada = await api.log_in("ada")
        answer = await ada.post("/users/me/password", {"current_password": PASSWORD, "new_password": new})
        body = refused(answer, 422, "validation_failed", "body.new_password")
        assert "easily guessed" in body["errors"][0]["message"]
        assert (await ada.get("/users/me")).status_code == 200

    async def test_checks_the_new_password_before_hashing_anything(
        self, ada: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise a user could make the bank hash passwords again and again without ever changing the password."""
        verified: list[str] = []
        monkeypatch.setattr(Passwords, "verify", lambda _passwords, password, _kept: bool(verified.append(password)))
        for current in (PASSWORD, "wrong horse battery"):
            body = {"current_password": current, "new_password": "passwordpassword"}
            refused(await ada.post("/users/me/password", body), 422, "validation_failed", "body.new_password")
        assert verified == []

    @pytest.mark.parametrize("length", [11, 129])
    async def test_limits_the_length_of_the_new_password(self, ada: Person, length: int) -> None:
        body = {"current_password": PASSWORD, "new_password": "x" * length}
        refused(await ada.post("/users/me/password", body), 422, "validation_failed", "body.new_password")

    async def test_succeeds_only_once_in_two_concurrent_requests(self, api: Api, ada: Person) -> None:
        bodies = [{"current_password": PASSWORD, "new_password": f"{name} horse battery"} for name in ("one", "two")]
        answers = await asyncio.gather(*(ada.post("/users/me/password", body) for body in bodies))
        assert sorted(answer.status_code for answer in answers) == [204, 401]
        won = bodies[[answer.status_code for answer in answers].index(204)]
        await api.log_in("ada", won["new_password"])


@pytest.mark.parametrize("email", ["Ada <ada@example.com>", "ada@example.com, Ada", "<ada@example.com>"])
async def test_text_around_an_address_is_rejected(api: Api, email: str) -> None:
    answer = await api.client.post("/signup", json={"email": email, "password": "correct horse battery"})
    assert answer.json()["errors"][0]["location"] == "body.email"
