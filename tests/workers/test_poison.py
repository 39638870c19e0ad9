"""Invalid and misplaced messages are dropped, and work continues: with a real Valkey."""

import json
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest
import redis
from dramatiq import Worker
from dramatiq.brokers.redis import RedisBroker

from core.domain.transfers import TransferStatus
from core.queue import broker as queue_broker
from core.queue.broker import is_idle
from core.queue.messages import JOBS_QUEUE, SETTLE, SETTLEMENT_QUEUE
from core.queue.wakeups import send_wakeup
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.builders import accepted, bank_of_two, from_ada_to_bob, status_of
from tests.queue_faults import QueueServer
from tests.waiting import eventually
from workers.broker import create_broker
from workers.jobs.statements import CLOSE_MONTHS, MAKE_GROUP, MAKE_STATEMENT, STATEMENTS_QUEUE

pytestmark = pytest.mark.processes


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[redis.Redis]:
    """A server for this test only."""
    server = QueueServer(tmp_path)
    try:
        with server.client() as client:
            yield client
    finally:
        server.close()


@pytest.fixture
def broker(
    settings: Settings, database: Database, valkey: redis.Redis, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RedisBroker]:
    monkeypatch.setattr(queue_broker, "CLEAR_UP_SECONDS", 0.05)
    broker = create_broker(settings, database, valkey, stop)
    yield broker
    broker.close()


@pytest.fixture(params=[SETTLEMENT_QUEUE, STATEMENTS_QUEUE])
def worked_on(request: pytest.FixtureRequest, broker: RedisBroker) -> Iterator[str]:
    """A queue with a running worker."""
    worker = Worker(broker, queues={request.param}, worker_threads=1, worker_timeout=20)
    worker.start()
    yield request.param
    worker.stop()


def put(broker: RedisBroker, name: str, body: bytes) -> None:
    """Put bytes into the queue as a message."""
    broker.do_enqueue(name, f"poison-{os.urandom(4).hex()}", body)


def forged(actor: object, **fields: object) -> bytes:
    usual = {
        "queue_name": "settlement",
        "actor_name": actor,
        "args": [],
        "kwargs": {},
        "options": {"redis_message_id": "poison"},
        "message_id": "poison",
        "message_timestamp": 0,
    }
    return json.dumps(usual | fields).encode()


POISON = {
    "undecodable": b"\xff\x00{",
    "not JSON": b"settle",
    "a list": b"[]",
    "an empty object": b"{}",
    "null": b"null",
    "unknown actor": forged("no_such_actor"),
    "an actor that is not a name": forged({"a": 1}),
    "an id that is not a string": forged(SETTLE, message_id=[1]),
    "invalid arguments": forged(SETTLE, args=7),
    "invalid keyword arguments": forged(SETTLE, kwargs=[1]),
    "no options": forged(SETTLE, options=None),
    "options without a name": forged(SETTLE, options={}),
    "dangerous options": forged(SETTLE, options={"redis_message_id": "x", "throws": "y", "eta": "z"}),
    "from the future": forged(MAKE_STATEMENT, args=[1], options={"redis_message_id": "x", "eta": 2**53}),
    "unknown ids": forged(MAKE_GROUP, args=[2**62]),
    "invalid ids": forged(MAKE_STATEMENT, args=["1", None]),
    "the work of another queue": forged("verify"),
}


class Exploit:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_is_dropped_and_not_executed(broker: RedisBroker, worked_on: str, tmp_path: Path, protocol: int) -> None:
    made = tmp_path / "made"
    put(broker, worked_on, pickle.dumps(Exploit(made), protocol))
    eventually(lambda: is_idle(broker, worked_on))
    assert not made.exists()
    pickle.loads(pickle.dumps(Exploit(made), protocol))
    assert made.exists()


def test_messages_are_only_json(broker: RedisBroker) -> None:
    assert type(dramatiq.get_encoder()) is dramatiq.JSONEncoder
    send_wakeup(broker)
    (message,) = broker.client.hvals(f"{broker.namespace}:{SETTLEMENT_QUEUE}.msgs")
    assert json.loads(message)["actor_name"] == SETTLE


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_poison_is_dropped_and_its_queue_is_idle_again(broker: RedisBroker, worked_on: str, poison: bytes) -> None:
    put(broker, worked_on, poison)
    eventually(lambda: is_idle(broker, worked_on))


@pytest.mark.parametrize("worked_on", [SETTLEMENT_QUEUE], indirect=True)
def test_transfers_settle_after_poison(database: Database, broker: RedisBroker, worked_on: str) -> None:
    bank = bank_of_two(database, ada_has=500)
    for poison in POISON.values():
        put(broker, worked_on, poison)
    transfer = accepted(database, from_ada_to_bob(bank))
    send_wakeup(broker)
    eventually(lambda: status_of(database, transfer) is TransferStatus.COMPLETED)


def test_only_the_worker_of_its_queue_settles(database: Database, broker: RedisBroker) -> None:
    transfer = accepted(database, from_ada_to_bob(bank_of_two(database, ada_has=500)))
    worker = Worker(broker, queues={JOBS_QUEUE}, worker_threads=1, worker_timeout=20)
    worker.start()
    try:
        put(broker, JOBS_QUEUE, forged(SETTLE))
        eventually(lambda: is_idle(broker, JOBS_QUEUE))
        assert status_of(database, transfer) is TransferStatus.PENDING
    finally:
        worker.stop()


@pytest.mark.parametrize("worked_on", [STATEMENTS_QUEUE], indirect=True)
def test_normal_work_is_done_despite_poison(broker: RedisBroker, worked_on: str) -> None:
    for poison in POISON.values():
        put(broker, worked_on, poison)
    broker.get_actor(CLOSE_MONTHS).send()
    eventually(lambda: is_idle(broker, worked_on))
