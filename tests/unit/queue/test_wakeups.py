"""Wake-ups: coalesced until one is taken up, and sent by a thread that survives an unavailable server."""

import threading
from collections.abc import Callable, Iterator

import dramatiq
import fakeredis
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker
from prometheus_client import REGISTRY

from core.queue import wakeups
from core.queue.broker import connect, make_broker
from core.queue.messages import SETTLE, SETTLEMENT_QUEUE, message
from core.queue.wakeups import WAKE_KEY, WAKE_MS, Waker, send_wakeup, take_wakeup
from tests.waiting import eventually


@pytest.fixture
def server() -> fakeredis.FakeServer:
    """The server behind the queue; `connected = False` makes it unreachable."""
    return fakeredis.FakeServer()


@pytest.fixture
def broker(server: fakeredis.FakeServer) -> Iterator[RedisBroker]:
    """A broker that sends and has no actors."""
    broker = make_broker(fakeredis.FakeRedis(server=server))
    broker.declare_queue(SETTLEMENT_QUEUE)
    yield broker
    broker.close()


def waiting(broker: RedisBroker) -> int:
    return broker.do_qsize(SETTLEMENT_QUEUE)


def sent(outcome: str) -> float:
    return REGISTRY.get_sample_value("giro_wakeups_total", {"outcome": outcome}) or 0.0


# --- sending and taking up ---


def test_a_wakeup_is_one_message_for_the_settlement_worker(broker: RedisBroker) -> None:
    assert send_wakeup(broker) is True
    assert waiting(broker) == 1
    dramatiq.actor(lambda: None, broker=broker, actor_name=SETTLE, queue_name=SETTLEMENT_QUEUE)
    consumer = broker.consume(SETTLEMENT_QUEUE, prefetch=1, timeout=10)
    waked = next(consumer)
    consumer.close()
    assert waked is not None
    assert (waked.actor_name, waked.args, waked.kwargs) == (SETTLE, (), {})


def test_wakeups_before_the_first_is_taken_up_are_one_message(broker: RedisBroker) -> None:
    assert [send_wakeup(broker) for _ in range(5)] == [True, False, False, False, False]
    assert waiting(broker) == 1


def test_taking_a_wakeup_up_allows_the_next_one(broker: RedisBroker) -> None:
    send_wakeup(broker)
    take_wakeup(broker)
    assert send_wakeup(broker) is True
    assert waiting(broker) == 2


def test_a_wakeup_that_is_not_taken_up_counts_as_lost_after_some_time(broker: RedisBroker) -> None:
    send_wakeup(broker)
    assert 0 < broker.client.pttl(WAKE_KEY) <= WAKE_MS
    broker.client.pexpire(WAKE_KEY, 1)
    assert eventually(lambda: send_wakeup(broker))


@pytest.mark.parametrize("milliseconds", [None, 86_400_000])
def test_a_key_without_an_expiry_blocks_no_wakeup(broker: RedisBroker, milliseconds: int | None) -> None:
    broker.client.set(WAKE_KEY, b"1", px=milliseconds)
    assert send_wakeup(broker) is True
    assert 0 < broker.client.pttl(WAKE_KEY) <= WAKE_MS
    assert send_wakeup(broker) is False


def test_two_processes_share_the_pending_wakeup(broker: RedisBroker, server: fakeredis.FakeServer) -> None:
    other = make_broker(fakeredis.FakeRedis(server=server))
    assert send_wakeup(broker) is True
    assert send_wakeup(other) is False
    take_wakeup(other)
    assert send_wakeup(broker) is True


def test_taking_up_a_wakeup_that_was_never_sent_does_nothing(broker: RedisBroker) -> None:
    take_wakeup(broker)
    assert waiting(broker) == 0


def test_sending_to_an_unavailable_server_reports_it(broker: RedisBroker, server: fakeredis.FakeServer) -> None:
    server.connected = False
    with pytest.raises(redis.RedisError):
        send_wakeup(broker)


def test_taking_up_continues_while_the_server_is_unavailable(broker: RedisBroker, server: fakeredis.FakeServer) -> None:
    server.connected = False
    take_wakeup(broker)


def test_a_message_has_no_arguments_that_need_trust() -> None:
    written = message("sweep", "jobs")
    assert (written.actor_name, written.queue_name, written.args, written.kwargs) == ("sweep", "jobs", (), {})


def test_messages_are_never_retried_aged_or_stopped_during_a_commit(broker: RedisBroker) -> None:
    names = {type(middleware).__name__ for middleware in broker.middleware}
    assert names.isdisjoint({"Retries", "AgeLimit", "TimeLimit"})


def test_a_client_times_out_soon() -> None:
    client = connect("redis://127.0.0.1:1/0")
    options = client.connection_pool.connection_kwargs
    assert 0 < options["socket_connect_timeout"] <= 1
    assert 0 < options["socket_timeout"] <= 2
    with pytest.raises(redis.RedisError):
        client.ping()
    client.close()


# --- the waker ---------------------------------------------------------------------------------------------------


@pytest.fixture
def waker(broker: RedisBroker) -> Iterator[Waker]:
    waker = Waker(broker)
    waker.start()
    yield waker
    waker.stop()
    assert not waker.is_alive()


def test_a_waker_sends_a_wakeup_on_request(broker: RedisBroker, waker: Waker) -> None:
    waker.wake()
    assert eventually(lambda: waiting(broker)) == 1


class Gate:
    """Blocks `send_wakeup`; the test admits one sender at a time."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.sends = 0

    def around(self, send: Callable[[RedisBroker], bool]) -> Callable[[RedisBroker], bool]:
        def guarded(broker: RedisBroker) -> bool:
            self.entered.release()
            assert self.open.wait(timeout=30)
            self.sends += 1
            return send(broker)

        return guarded


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(wakeups, "send_wakeup", gate.around(send_wakeup))
    return gate


def test_requests_return_at_once_and_many_during_a_send_become_one_more(gate: Gate, waker: Waker) -> None:
    waker.wake()
    assert gate.entered.acquire(timeout=30)
    for _ in range(100):
        waker.wake()
    assert gate.sends == 0, "the first is still being sent, and no request waited for it"
    gate.open.set()
    assert gate.entered.acquire(timeout=30)
    eventually(lambda: gate.sends == 2)
    assert not gate.entered.acquire(timeout=0.05)


def test_a_request_during_a_send_is_sent_before_the_stop(gate: Gate, broker: RedisBroker) -> None:
    waker = Waker(broker)
    waker.start()
    waker.wake()
    assert gate.entered.acquire(timeout=30)
    waker.wake()
    stopping = threading.Thread(target=waker.stop)
    stopping.start()
    eventually(lambda: waker._stopping)
    gate.open.set()
    stopping.join(timeout=30)
    assert not waker.is_alive()
    assert gate.sends == 2


def test_a_waker_survives_an_unavailable_server(
    broker: RedisBroker, server: fakeredis.FakeServer, waker: Waker
) -> None:
    failed, good = sent("failed"), sent("sent")
    server.connected = False
    waker.wake()
    eventually(lambda: sent("failed") == failed + 1)
    server.connected = True
    waker.wake()
    eventually(lambda: sent("sent") == good + 1)
    assert waiting(broker) == 1


def test_a_waker_survives_an_unexpected_exception(
    broker: RedisBroker, waker: Waker, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, good = sent("failed"), sent("sent")
    with monkeypatch.context() as patched:
        patched.setattr(broker, "enqueue", lambda _message: 1 / 0)
        waker.wake()
        eventually(lambda: sent("failed") == failed + 1)
    broker.client.delete(WAKE_KEY)
    waker.wake()
    eventually(lambda: sent("sent") == good + 1)


def test_wakeups_are_counted_by_their_outcome(broker: RedisBroker, waker: Waker) -> None:
    before = sent("coalesced")
    send_wakeup(broker)
    waker.wake()
    eventually(lambda: sent("coalesced") == before + 1)


def test_a_probe_reports_whether_the_server_is_available(server: fakeredis.FakeServer, waker: Waker) -> None:
    waker.probe()
    server.connected = False
    with pytest.raises(redis.RedisError):
        waker.probe()


def test_stopping_without_a_request_ends_the_thread_and_sends_nothing(broker: RedisBroker) -> None:
    waker = Waker(broker)
    waker.start()
    waker.stop()
    assert not waker.is_alive()
    assert waiting(broker) == 0
