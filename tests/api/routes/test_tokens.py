"""Logging in and out, refreshing tokens, and rotating the keys that sign access tokens."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import jwt
import passlib.hash
import pytest

from core.security import token_keys
from core.security.passwords import Passwords
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.api.conftest import PASSWORD, Api, Pair, Person, Start, masked, refused, until
from tests.unit.cli.test_cli import giro

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def ada(api: Api) -> Person:
    return await api.sign_up("ada")


@pytest.fixture
async def grace(api: Api) -> Person:
    return await api.sign_up("grace")


def deactivate(database: Database, email: str) -> None:
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE users SET is_active = 0 WHERE email = ?", (email,))


class TestLoggingIn:
    async def test_returns_tokens_that_must_not_be_cached(self, api: Api, ada: Person) -> None:
        answer = await api.client.post("/login", data={"username": ada.email, "password": PASSWORD})
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        tokens = answer.json()
        assert tokens.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "device_token"}
        assert (tokens["token_type"], tokens["expires_in"]) == ("bearer", 900)

    @pytest.mark.parametrize(
        "more",
        [
            {"grant_type": "password"},
            {"grant_type": ""},
            {"scope": "", "client_id": "", "client_secret": ""},
            {"scope": "a b", "client_id": "app", "client_secret": "hush"},
        ],
        ids=str,
    )
    async def test_allows_the_other_standard_fields(self, api: Api, ada: Person, more: dict[str, str]) -> None:
        answer = await api.client.post("/login", data={"username": ada.email, "password": PASSWORD, **more})
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        ("form", "location"),
        [
            ({"password": PASSWORD}, "body.username"),
            ({"username": "ada@example.com"}, "body.password"),
            ({"username": "ada@example.com", "password": PASSWORD, "grant_type": "refresh_token"}, "body.grant_type"),
            ({"username": "ada@example.com", "password": PASSWORD, "otp": "1"}, "body.otp"),
            ({"username": "ada@example.com", "password": "x" * 129}, "body.password"),
            ({"username": "a" * 255, "password": PASSWORD}, "body.username"),
        ],
        ids=str,
    )
    async def test_rejects_an_invalid_oauth2_form(self, api: Api, form: dict[str, str], location: str) -> None:
        refused(await api.client.post("/login", data=form), 422, "validation_failed", location)

    @pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""])
    async def test_accepts_only_a_form(self, api: Api, ada: Person, content_type: str) -> None:
        body = json.dumps({"username": ada.email, "password": PASSWORD})
        answer = await api.client.post("/login", content=body, headers={"Content-Type": content_type})
        refused(answer, 415, "unsupported_media_type")

    async def test_answers_a_wrong_password_and_an_unknown_user_alike(
        self, api: Api, ada: Person, grace: Person, database: Database
    ) -> None:
        deactivate(database, grace.email)
        wrong = await api.client.post("/login", data={"username": ada.email, "password": "wrong horse battery"})
        refused(wrong, 401, "unauthenticated")
        for username, password in (
            ("nobody@example.com", PASSWORD),
            (grace.email, PASSWORD),
            ("bank", PASSWORD),
            (" ", " "),
            ("\x00", "\x00"),
        ):
            answer = await api.client.post("/login", data={"username": username, "password": password})
            assert masked(answer) == masked(wrong)
            assert answer.headers.keys() == wrong.headers.keys()

    @pytest.mark.parametrize("field", [b"username=%ff%fe", b"username=%ed%a0%80", b"username=%00"], ids=repr)
    async def test_rejects_bytes_that_are_not_text(self, api: Api, field: bytes) -> None:
        answer = await api.client.post("/login", content=field + b"&password=" + b"x" * 12, headers=FORM)
        refused(answer, 401, "unauthenticated")

    async def test_rejects_garbage_in_place_of_a_form(self, api: Api) -> None:
        for garbage in (b"", b"\xff\xfe", b"&&&===", b"%", b"username", b'{"username":"a"}'):
            refused(await api.client.post("/login", content=garbage, headers=FORM), 422, "validation_failed")

    async def test_rehashes_the_password_once_the_cost_is_raised(self, start: Start, database: Database) -> None:
        async with start() as api:
            before = await api.sign_up("ada")
        async with start(password_hash_rounds=5) as api:
            await api.log_in("ada")
            with database.reader.connect() as connection:
                kept = connection.exec_driver_sql("SELECT password_hash FROM users WHERE id > 1").scalar_one()
            assert "r=5" in kept
            await api.log_in("ada")
            before.client = api.client
            assert (await before.get("/users/me")).status_code == 200

    async def test_gives_access_for_the_time_of_the_setting(self, start: Start) -> None:
        async with start(access_token_seconds=60) as api:
            ada = await api.sign_up("ada")
            answer = await api.client.post("/login", data={"username": ada.email, "password": PASSWORD})
            claims = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
            assert claims["exp"] - claims["iat"] == answer.json()["expires_in"] == 60


class TestRefreshing:
    async def test_returns_a_new_pair_and_spends_the_old_token(self, api: Api, ada: Person) -> None:
        answer = await api.client.post("/token/refresh", json={"refresh_token": ada.refresh_token})
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json()["refresh_token"] != ada.refresh_token
        ada.token = answer.json()["access_token"]
        assert (await ada.get("/users/me")).status_code == 200

    async def test_twice_with_one_token_revokes_only_its_family(self, api: Api, ada: Person) -> None:
        other = await api.log_in("ada")
        second = await api.client.post("/token/refresh", json={"refresh_token": ada.refresh_token})
        reuse = await api.client.post("/token/refresh", json={"refresh_token": ada.refresh_token})
        refused(reuse, 401, "unauthenticated")
        following = await api.client.post("/token/refresh", json={"refresh_token": second.json()["refresh_token"]})
        refused(following, 401, "unauthenticated")
        untouched = await api.client.post("/token/refresh", json={"refresh_token": other.refresh_token})
        assert untouched.status_code == 200

    async def test_concurrently_with_one_token_returns_at_most_one_pair(self, api: Api, ada: Person) -> None:
        body = {"refresh_token": ada.refresh_token}
        answers = await asyncio.gather(*(api.client.post("/token/refresh", json=body) for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 5
        (won,) = (answer.json() for answer in answers if answer.status_code == 200)
        following = await api.client.post("/token/refresh", json={"refresh_token": won["refresh_token"]})
        refused(following, 401, "unauthenticated")

    @pytest.mark.parametrize("token", ["no token of ours", "x" * 512, "\x00", "ä"])
    async def test_with_an_unknown_token_is_rejected(self, api: Api, token: str) -> None:
        refused(await api.client.post("/token/refresh", json={"refresh_token": token}), 401, "unauthenticated")

    @pytest.mark.parametrize("token", ["", "x" * 513, None, 7, ["x"]], ids=str)
    async def test_without_a_valid_token_field_is_invalid(self, api: Api, token: Any) -> None:
        answer = await api.client.post("/token/refresh", json={"refresh_token": token})
        refused(answer, 422, "validation_failed", "body.refresh_token")

    async def test_with_a_lone_surrogate_is_rejected(self, api: Api) -> None:
        answer = await api.client.post(
            "/token/refresh", content=b'{"refresh_token":"\\ud800"}', headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in (401, 422)

    async def test_with_an_access_token_is_rejected(self, api: Api, ada: Person) -> None:
        refused(await api.client.post("/token/refresh", json={"refresh_token": ada.token}), 401, "unauthenticated")

    async def test_ends_with_the_lifetime_of_the_log_in(self, api: Api, ada: Person, database: Database) -> None:
        with unit_of_work(database) as connection:
            connection.exec_driver_sql("UPDATE refresh_tokens SET expires_at = ?", (time.time_ns() // 1000,))
        answer = await api.client.post("/token/refresh", json={"refresh_token": ada.refresh_token})
        refused(answer, 401, "unauthenticated")

    async def test_never_extends_beyond_the_lifetime_of_the_log_in(
        self, api: Api, ada: Person, database: Database
    ) -> None:
        await api.client.post("/token/refresh", json={"refresh_token": ada.refresh_token})
        with database.reader.connect() as connection:
            ends = connection.exec_driver_sql("SELECT DISTINCT expires_at FROM refresh_tokens").fetchall()
        assert len(ends) == 1

    async def test_is_rejected_for_a_deactivated_user(self, api: Api, ada: Person, database: Database) -> None:
        deactivate(database, ada.email)
        answer = await api.client.post("/token/refresh", json={"refresh_token": ada.refresh_token})
        refused(answer, 401, "unauthenticated")

    async def test_tokens_are_stored_as_digests_only(self, ada: Person, database: Database) -> None:
        with database.reader.connect() as connection:
            kept = str(connection.exec_driver_sql("SELECT * FROM refresh_tokens").fetchall())
        assert ada.refresh_token not in kept


class TestTheCostOfALogIn:
    """Counts hashes instead of seconds: an unknown user must cost the same, and no clock is exact on a busy machine."""

    @pytest.fixture
    def hashes(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
        """Counts the hashes that the library computes for any caller."""
        counts: Counter[str] = Counter()
        library = passlib.hash.bcrypt_sha256
        real = library._calc_checksum

        def counted(scheme: Any, secret: Any) -> Any:
            counts[f"{scheme.rounds} rounds"] += 1
            return real(scheme, secret)

        monkeypatch.setattr(library, "_calc_checksum", counted)
        return counts

    async def cost(self, api: Api, hashes: Counter[str], email: str, password: str) -> tuple[int, Counter[str]]:
        hashes.clear()
        answer = await api.client.post("/login", data={"username": email, "password": password})
        return answer.status_code, Counter(hashes)

    async def test_is_one_hash_for_every_user(
        self, api: Api, ada: Person, grace: Person, database: Database, hashes: Counter[str]
    ) -> None:
        deactivate(database, grace.email)
        one = Counter({"4 rounds": 1})
        assert await self.cost(api, hashes, ada.email, PASSWORD) == (200, one)
        for email, password in (
            (ada.email, "wrong horse battery"),
            ("nobody@example.com", PASSWORD),
            (grace.email, PASSWORD),
            (grace.email, "wrong horse battery"),
            ("bank", PASSWORD),
        ):
            assert await self.cost(api, hashes, email, password) == (401, one), email

    async def test_is_equal_for_a_hash_older_than_the_current_cost(
        self, start: Start, database: Database, hashes: Counter[str]
    ) -> None:
        """2^4 + 2^4 + 2^5 = 2^6: a wrong password for an old hash takes as long as an unknown user."""
        async with start() as api:
            await api.sign_up("ada")
        async with start(password_hash_rounds=6) as api:
            wrong = await self.cost(api, hashes, "ada@example.com", "wrong horse battery")
            assert wrong == (401, Counter({"4 rounds": 2, "5 rounds": 1}))
            assert await self.cost(api, hashes, "nobody@example.com", "x") == (401, Counter({"6 rounds": 1}))


class TestTooManyPasswordsAtOnce:
    @pytest.fixture
    def slow(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
        """Verification blocks until this is set."""
        may_end, verify = threading.Event(), Passwords.verify

        def slow(passwords: Passwords, password: str, kept: str | None) -> bool:
            assert may_end.wait(30)
            return verify(passwords, password, kept)

        monkeypatch.setattr(Passwords, "verify", slow)
        yield may_end
        may_end.set()

    @staticmethod
    async def ask(api: Api, number: int, path: str = "/login", **body: Any) -> httpx2.Response:
        """Send a request from its own address: by default, a log-in of Ada."""
        transport = httpx2.ASGITransport(app=api.app, client=(f"192.0.2.{number}", 40_000))
        async with httpx2.AsyncClient(transport=transport, base_url="http://giro.test") as client:
            return await client.post(path, **body or {"data": {"username": "ada@example.com", "password": PASSWORD}})

    @staticmethod
    async def refused_of(asked: list[asyncio.Task[httpx2.Response]], count: int) -> None:
        await until(lambda: sum(task.done() for task in asked) == count)
        for answer in [task.result() for task in asked if task.done()]:
            refused(answer, 503, "unavailable")
            assert answer.headers["retry-after"] == "1"

    async def test_are_asked_to_retry_while_others_are_served(self, start: Start, slow: threading.Event) -> None:
        async with start(password_hash_threads=1, password_hash_waiting=2) as api:
            slow.set()
            ada = await api.sign_up("ada")
            slow.clear()
            log_ins = [asyncio.create_task(self.ask(api, number)) for number in range(10)]
            try:
                await self.refused_of(log_ins, 7)
                signing_up = {"email": "grace@example.com", "password": PASSWORD}
                refused(await self.ask(api, 10, "/signup", json=signing_up), 503, "unavailable")
                assert (await ada.get("/users/me")).status_code == 200
            finally:
                slow.set()
            assert sorted([(await task).status_code for task in log_ins]) == [200] * 3 + [503] * 7
            assert (await self.ask(api, 1)).status_code == 200

    async def test_of_one_user_or_address_leave_most_of_the_places_to_others(
        self, start: Start, slow: threading.Event
    ) -> None:
        async with start(password_hash_threads=1, password_hash_waiting=12) as api:
            slow.set()
            ada, grace = await api.sign_up("ada"), await api.sign_up("grace")
            form = {"username": grace.email, "password": PASSWORD}
            device = (await self.ask(api, 2, data=form)).json()["device_token"]
            slow.clear()
            body, hashing = {"current_password": PASSWORD, "new_password": "another horse battery"}, api.runtime.hashing
            try:
                changes = [asyncio.create_task(ada.post("/users/me/password", body)) for _ in range(10)]
                await self.refused_of(changes, 6)
                log_ins = [asyncio.create_task(self.ask(api, 1)) for _ in range(10)]
                await self.refused_of(log_ins, 6)
                another = asyncio.create_task(self.ask(api, 2, data=form))
                known = asyncio.create_task(self.ask(api, 1, data=form | {"device_token": device}))
                await until(lambda: (hashing.strangers.waiting, hashing.users.waiting) == (4, 4))
            finally:
                slow.set()
            assert ((await another).status_code, (await known).status_code) == (200, 200)
            assert 204 in [(await task).status_code for task in changes]
            await asyncio.gather(*log_ins)


class TestLoggingOut:
    async def test_ends_every_token_at_once(self, api: Api, ada: Person) -> None:
        other = await api.log_in("ada")
        answer = await ada.post("/logout")
        assert answer.status_code == 204
        assert not answer.content
        for session in (ada, other):
            refused(await session.get("/users/me"), 401, "unauthenticated")
            again = await api.client.post("/token/refresh", json={"refresh_token": session.refresh_token})
            refused(again, 401, "unauthenticated")
        refused(await ada.post("/logout"), 401, "unauthenticated")

    async def test_leaves_all_other_users_logged_in(self, ada: Person, grace: Person) -> None:
        await ada.post("/logout")
        assert (await grace.get("/users/me")).status_code == 200


class TestRotatingTheKeys:
    @pytest.fixture
    async def two(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Api, Api]]:
        """Two processes with the keys of one data folder. Neither checks the keys by the clock."""
        monkeypatch.setattr(token_keys, "LOOK_SECONDS", 10**9)
        async with start(jwt_secret=None) as one, start(jwt_secret=None) as other:
            yield one, other

    async def test_rejects_no_token_in_any_process(self, two: tuple[Api, Api]) -> None:
        one, other = two
        before = await one.sign_up("ada")
        assert giro("keys", "rotate", "tokens").exit_code == 0
        after = await one.log_in("ada")
        assert [jwt.get_unverified_header(person.token)["kid"] for person in (before, after)] == ["1", "2"]
        for api in (other, one):
            for person in (before, after):
                person.client = api.client
                assert (await person.get("/users/me")).status_code == 200

    async def test_at_once_ends_access_tokens_but_no_log_in(
        self, two: tuple[Api, Api], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, _ = two
        ada = await one.sign_up("ada")
        assert (await ada.get("/users/me")).status_code == 200
        assert giro("keys", "rotate", "tokens", "--at-once").exit_code == 0
        one.runtime.access_tokens._keys._look_at = 0  # a second later
        refused(await ada.get("/users/me"), 401, "unauthenticated")
        answer = await one.client.post("/token/refresh", json={"refresh_token": ada.refresh_token})
        ada.token = answer.json()["access_token"]
        assert (await ada.get("/users/me")).status_code == 200

    async def test_does_not_invalidate_cursors(self, two: tuple[Api, Api]) -> None:
        one, other = two
        ada = await one.sign_up("ada")
        opened = [(await ada.open())["id"] for _ in range(3)]
        first = (await ada.get("/accounts?limit=1")).json()
        assert giro("keys", "rotate", "tokens", "--at-once").exit_code == 0
        ada = await other.log_in("ada")
        rest = (await ada.get(f"/accounts?limit=2&cursor={first['next_cursor']}")).json()
        assert sorted(item["id"] for page in (first, rest) for item in page["items"]) == sorted(opened)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/users/me"),
        ("POST", "/users/me/password"),
        ("POST", "/logout"),
        ("GET", "/accounts"),
        ("POST", "/accounts"),
        ("GET", "/accounts/x"),
        ("GET", "/accounts/x/transactions"),
        ("GET", "/transfers"),
        ("POST", "/transfers"),
        ("GET", "/transfers/x"),
        ("POST", "/transfers/x/cancel"),
        ("POST", "/deposits"),
        ("POST", "/withdrawals"),
    ],
)
async def test_a_call_without_a_token_reveals_only_that_it_is_missing(api: Api, method: str, path: str) -> None:
    unsigned_call = await api.client.request(method, path)
    refused(unsigned_call, 401, "unauthenticated")
    me = await api.client.get("/users/me")
    assert masked(unsigned_call) == masked(me)


async def test_a_hashing_log_in_delays_no_other_request(
    api: Api, ada: Person, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashing, may_end = threading.Event(), threading.Event()

    def verify(_passwords: Passwords, _password: str, _kept: str | None) -> bool:
        hashing.set()
        return may_end.wait(30)

    monkeypatch.setattr(Passwords, "verify", verify)
    form = {"username": ada.email, "password": PASSWORD}
    log_in = asyncio.create_task(api.client.post("/login", data=form))
    try:
        assert await asyncio.to_thread(hashing.wait, 10)
        await ada.pay(pair.payer, pair.payee)
        assert (await ada.get("/users/me")).status_code == 200
        assert not log_in.done()
    finally:
        may_end.set()
    assert (await log_in).status_code == 200
