"""Fixtures of the workers' tests: a queue in this process, and its broker."""

import threading
from collections.abc import Iterator

import fakeredis
import pytest
from dramatiq.brokers.redis import RedisBroker

from core.settings import Settings
from core.storage.sqlite.engine import Database
from workers.broker import create_broker


@pytest.fixture
def server() -> fakeredis.FakeServer:
    """The server behind the queue; `connected = False` makes it unreachable."""
    return fakeredis.FakeServer()


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    """The event that stops a worker; it is always set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def broker(
    settings: Settings, database: Database, server: fakeredis.FakeServer, stop: threading.Event
) -> Iterator[RedisBroker]:
    """A broker with every actor declared, as in a worker process."""
    broker = create_broker(settings, database, fakeredis.FakeRedis(server=server), stop)
    yield broker
    broker.close()
