"""Canaries without processes: misplaced input, and input during failures, appears in no log and in no error.

`tests/flows/test_canaries.py` does the same to a whole service and searches everything that it leaves behind.
"""

import base64
import json
from http import HTTPStatus
from urllib.parse import quote

import httpx2
import pytest
from prometheus_client import generate_latest

from core.domain.users import Role
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.api.conftest import Api, Person, Start, join
from tests.api.contract import Contract
from tests.api.test_card_canary import of_the_queue
from tests.canaries import Seen, misplaced

CANARIES = {
    "email": "canary+4711@example.com",
    "name": 'Ada "4711" Müller & <Söhne>',
    "description": 'rent "4711" – for Ada & Bob',
    "password": 'pass "4711" & <word> größer',
    "refresh_token": "canaryOfARefreshToken_4711-abcdefghijklmnop",
    "access_token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0NzExIn0.c2lnbmF0dXJlIG9mIGEgY2FuYXJ5",
}
BROKEN = "WHEN NEW.name IS NOT NULL BEGIN SELECT RAISE(ABORT, 'broken'); END"


async def misuse(api: Api, seen: Seen, document: object, *people: Person) -> None:
    """Put every value where it does not belong, with and without a token, and collect the answers."""
    assert isinstance(document, dict)
    # A client without the contract: the document does not describe many of these calls.
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=api.app), base_url="http://giro.test") as client:
        for token in ("", *[person.token for person in people]):
            for method, path, more in misplaced(document, CANARIES):
                if path.partition("?")[0] == "/logout":
                    continue  # it would end the session
                signed = {b"Authorization": f"Bearer {token}".encode()} if token else {}
                answer = await client.request(method, path, headers=signed | more.pop("headers", {}), **more)
                assert answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR, (method, path, answer.text)
                if answer.is_error:
                    seen.keep("errors", f"{answer.headers} {answer.text}")


async def fail_to_log_in(api: Api, seen: Seen) -> None:
    """Confuse fields, as people do, and present invalid tokens."""
    for username, password in (("email", "password"), ("password", "email"), ("access_token", "refresh_token")):
        form = {"username": CANARIES[username], "password": CANARIES[password]}
        seen.keep("errors", (await api.client.post("/login", data=form)).text)
    seen.keep("errors", (await api.client.post("/token/refresh", json={"refresh_token": CANARIES["password"]})).text)
    forged = {"Authorization": f"Bearer {CANARIES['access_token']}"}
    seen.keep("errors", (await api.client.get("/users/me", headers=forged)).text)


async def sign_up_while_the_database_is_broken(api: Api, seen: Seen, database: Database) -> None:
    with unit_of_work(database) as connection:
        connection.exec_driver_sql(f"CREATE TRIGGER no_users BEFORE INSERT ON users {BROKEN}")
    body = {name: CANARIES[name] for name in ("email", "name", "password")}
    answer = await api.client.post("/signup", json=body, headers={"X-Api-Key": CANARIES["access_token"]})
    assert answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    seen.keep("errors", answer.text)


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_no_input_is_logged_or_repeated_in_an_error(
    start: Start, database: Database, contract: Contract, capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    seen = Seen()
    async with start(log_level="debug", log_format=log_format) as api:
        operator = join(api, database, "operator", Role.OPERATOR)
        await misuse(api, seen, contract.document, operator)
        await fail_to_log_in(api, seen)
        await sign_up_while_the_database_is_broken(api, seen, database)
        seen.keep("metrics", generate_latest())
        seen.keep("queue", of_the_queue(api.queue))
        seen.keep("audit", (await operator.get("/operator/audit?limit=1000")).text)
    captured = capsys.readouterr()
    seen.keep("log", captured.err + captured.out)
    for place, word in {"errors": b"internal_error", "log": b"IntegrityError", "audit": b"log_in_failed"}.items():
        assert word in seen.text(place), place
    assert {name: seen.where(word) for name, word in CANARIES.items()} == {name: set() for name in CANARIES}


@pytest.mark.parametrize("name", CANARIES)
@pytest.mark.parametrize(
    "written", ["{0}", "a line with {0!r}", "{0.encode}", "{hex}", "{base64}", "{url}", "{json}"], ids=str
)
def test_the_search_finds_a_canary_in_every_form(name: str, written: str) -> None:
    word = CANARIES[name]
    forms = {"hex": word.encode().hex(), "url": quote(word), "json": json.dumps({"value": word})}
    forms["base64"] = base64.urlsafe_b64encode(f"ab{word}".encode()).decode()
    seen = Seen()
    seen.keep("here", "nothing")
    seen.keep("there", written.replace("{0.encode}", word).format(word, **forms))
    assert seen.where(word) == {"there"}
