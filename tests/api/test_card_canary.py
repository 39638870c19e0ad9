"""A canary: card numbers, CVCs and keys are found nowhere but in the one answer that shows a number and its CVC.

The test runs every operation on cards and provokes errors. Then it searches everything that is left: the log at its
most verbose level, in both formats; metrics; the queue; every other answer; the files of the database.
"""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import fakeredis
import pytest
from prometheus_client import generate_latest

from core.domain.users import Role
from core.security.card_vault import CardVault
from core.security.secrets import Secrets
from core.services.cards import issuing, keys
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests import builders
from tests.api.conftest import JSON, Api, Person, Start, join, written
from tests.api.contract import Json
from tests.canaries import Seen


class SeenOfCards(Seen):
    """All numbers, CVCs and keys, issued or not, and all text that anybody could read."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: set[str] = set()

    def found(self, *secrets: str) -> list[str]:
        """Name the places that contain a number, a key, or a CVC next to its name."""
        return sorted(self.of_a_cvc().union(*(self.where(word) for word in (*self.numbers, *secrets))))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> SeenOfCards:
    """Record every number that is made, including those of cards that were never issued."""
    seen, make = SeenOfCards(), issuing.card_number

    def noted(serial: int) -> str:
        number = make(serial)
        seen.numbers.add(number)
        return number

    monkeypatch.setattr(issuing, "card_number", noted)
    return seen


def of_the_queue(server: fakeredis.FakeServer) -> str:
    """The whole content of the queue server, as text."""
    client = fakeredis.FakeRedis(server=server)
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
    }
    return repr([(key, readers[client.type(key)](key)) for key in client.keys("*")])


def bytes_of(path: Path) -> bytes:
    """A file's bytes, read by another process: closing a descriptor of it here would drop SQLite's locks."""
    return subprocess.run(["cat", path], capture_output=True, check=True).stdout


async def misuse(ada: Person, account: Json, card: Json) -> list[str]:
    """Send a card's number wherever it does not belong, and return the answers."""
    number, good = card["card_number"], {"account_id": account["id"], "type": "debit"}
    bodies: list[Json] = [
        good | {"card_number": number},
        good | {number: 1},
        good | {f"a {number} b": {"cvc": card["cvc"]}},
        good | {"account_id": number},
        good | {"type": number},
        [number],
        number,
    ]
    answers = [await ada.post("/cards", body) for body in bodies]
    answers += [
        await ada.request("POST", "/cards", content=content, headers=JSON)
        for content in (written(good)[:-1] + number.encode(), f'{{"{number}": 1, "{number}": 2}}'.encode())
    ]
    for path in (
        f"/cards/{number}",
        f"/cards?cursor={number}",
        f"/cards?{number}=1",
        f"/{number}",
        f"/cards?limit={number}",
    ):
        answers.append(await ada.get(path))
    answers.append(await ada.get(f"/cards/{uuid4()}", headers={"X-Request-ID": number}))
    answers.append(await ada.get("/cards", headers={"X-Request-ID": f"pay-{number}", "Accept": f"text/{number}"}))
    assert {answer.status_code for answer in answers} <= {400, 404, 406, 422}
    return [f"{answer.headers} {answer.text}" for answer in answers]


async def use(api: Api, ada: Person, account: Json, seen: SeenOfCards, monkeypatch: pytest.MonkeyPatch) -> Json:
    """Run every operation on cards, break some, and collect every answer except those that may show a card."""
    issued = [
        (await ada.post("/cards", {"account_id": account["id"], "type": kind})).json() for kind in ("debit", "credit")
    ]
    first = issued[0]
    calls = [ada.get("/cards"), ada.get(f"/cards/{first['id']}")]
    calls += [ada.post(f"/cards/{first['id']}/{act}") for act in ("freeze", "unfreeze", "cancel", "freeze")]
    texts = [(await call).text for call in calls]
    texts += await misuse(ada, account, first)
    with monkeypatch.context() as patch:
        # It fails at the worst moment: the number is known, its digest is computed, and nothing is sealed yet.
        patch.setattr(issuing, "write_down", lambda *_, **__: 1 / 0)
        answer = await ada.post("/cards", {"account_id": account["id"], "type": "debit"})
        assert answer.status_code == 500
        texts.append(answer.text)
    keys.rotate(api.runtime.database, CardVault(Secrets(api.runtime.settings)), builders.author(1), lambda *_: None)
    answer = await ada.post("/cards", {"account_id": account["id"], "type": "debit"})
    assert answer.status_code == 201
    issued.append(answer.json())
    seen.keep("answers", "\n".join(texts))
    return issued


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_no_secret_of_a_card_is_left_anywhere(
    start: Start,
    settings: Settings,
    database: Database,
    seen: SeenOfCards,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    log_format: str,
) -> None:
    async with start(log_level="debug", log_format=log_format) as api:
        ada, operator = join(api, database, "ada"), join(api, database, "operator", Role.OPERATOR)
        account, other = await ada.open(), await ada.open()
        builders.fund(database, UUID(account["id"]), 100)
        issued = await use(api, ada, account, seen, monkeypatch)
        await ada.pay(account, other)
        seen.keep("audit", (await operator.get("/operator/audit")).text)
        seen.keep("metrics", generate_latest())
        await asyncio.to_thread(api.runtime.waker.stop)  # all its messages have been sent
        seen.keep("queue", of_the_queue(api.queue))
        for path in settings.database_path.parent.glob("banking.db*"):
            seen.keep(path.name, bytes_of(path))
    captured = capsys.readouterr()
    seen.keep("log", captured.err + captured.out)
    assert_all_was_looked_at(seen, issued, log_format)
    secrets = [path.read_text() for path in Secrets(settings).card_keys.path.parent.iterdir()]
    secrets += [secret.partition(":")[2] for secret in secrets if ":" in secret]
    assert len(secrets) == 3
    assert seen.found(*secrets) == []
    sees_its_prey(seen, issued, secrets)


def assert_all_was_looked_at(seen: SeenOfCards, issued: list[Json], log_format: str) -> None:
    """Prove that the search had input: each place contains expected words about these cards."""
    assert {card["card_number"] for card in issued} < seen.numbers
    assert len(seen.numbers) >= 4, "including the one that was never issued"
    last4 = issued[0]["last4"].encode()
    for name, word in {
        "answers": last4,
        "audit": last4,
        "metrics": b'route="/cards/{card_id}/freeze"',
        "queue": b"settle",
        "log": b"ZeroDivisionError",
        "banking.db-wal": last4,
    }.items():
        assert word in seen.text(name), name
    assert b'"request"' in seen.text("log") or log_format == "console"


def sees_its_prey(seen: SeenOfCards, issued: list[Json], secrets: list[str]) -> None:
    """Prove that the search works: it finds each secret in every form."""
    for prey in (issued[1]["card_number"], secrets[-1], '"cvc":"042"', "cvc='042'", "'cvc': '042'"):
        trap = SeenOfCards()
        trap.numbers = seen.numbers
        trap.keep("trap", f"something {prey} something")
        assert trap.found(*secrets) == ["trap"], prey
