"""Tampering with the messages of a running Valkey, from outside of the service."""

import json
import random
from contextlib import suppress
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.queue.messages import JOBS_QUEUE, SETTLE, SETTLEMENT_QUEUE
from core.queue.wakeups import WAKE_KEY
from tests.queue_faults import BROKEN, repair
from workers.jobs.statements import MAKE_GROUP, MAKE_STATEMENT, STATEMENTS_QUEUE

QUEUES = (SETTLEMENT_QUEUE, JOBS_QUEUE, STATEMENTS_QUEUE)
NAMESPACE = "dramatiq"
MOST_DUMPS = 20
REPAIRS = 5


class Tamperer:
    """Changes the content of the queues. If the server is down at that moment, nothing happens, without an error."""

    def __init__(self, socket: Path, dice: random.Random) -> None:
        # No retry: the server may be stopped, and the nemesis must stay on time.
        once = Retry(NoBackoff(), 0)
        self._client = redis.Redis(
            unix_socket_path=str(socket), socket_timeout=0.3, socket_connect_timeout=0.3, retry=once
        )
        self._socket = socket
        self._dice = dice
        self._dumps: list[dict[bytes, tuple[int, bytes]]] = []
        self._forged = 0
        self._broken = False

    def break_as(self, state: str) -> bool:
        """Bring the server into a state in which it cannot be used."""
        with suppress(redis.RedisError):
            BROKEN[state](self._client)
            self._broken = True
            return True
        return False

    def repair(self) -> None:
        """End that state. A server that was killed meanwhile has lost it, and a busy one needs a second try."""
        self._broken = False
        for _ in range(REPAIRS):
            with suppress(redis.RedisError):
                repair(self._client)
                return

    def take_away(self) -> bool:
        """Let no process reach the server: its socket has another name, and its connections end."""
        with suppress(redis.RedisError, OSError):
            self._client.ping()
            self._socket.rename(self._away)
            with redis.Redis(unix_socket_path=str(self._away), socket_timeout=0.3) as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "normal")
            return True
        return False

    def bring_back(self) -> None:
        """Let the server be reached again, unless it was killed meanwhile: a new one has its own socket."""
        if not self._socket.exists():
            with suppress(OSError):
                self._away.rename(self._socket)

    @property
    def _away(self) -> Path:
        return self._socket.with_suffix(".away")

    def take_dump(self) -> None:
        """Save a copy of the server's whole content, unless it is that of a broken queue."""
        if self._broken:
            return
        with suppress(redis.RedisError):
            dump = {}
            for key in self._client.scan_iter(count=1000):
                content, left = self._client.dump(key), self._client.pttl(key)
                if content is not None:
                    dump[key] = (max(left, 0), content)
            self._dumps = [*self._dumps, dump][-MOST_DUMPS:]

    def restore_dump(self, back: int) -> bool:
        """Replace the server's content with an older copy."""
        if not self._dumps:
            return False
        dump = self._dumps[-min(back, len(self._dumps))]
        with suppress(redis.RedisError):
            pipeline = self._client.pipeline().flushall()
            for key, (left, content) in dump.items():
                pipeline.restore(key, left, content, replace=True)
            pipeline.execute()
            return True
        return False

    def flush(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self._client.flushall())
        return False

    def duplicate(self) -> bool:
        """Duplicate every message, with the same message id and another id in the queue."""
        with suppress(redis.RedisError):
            for queue in QUEUES:
                for name, body in self._client.hgetall(f"{NAMESPACE}:{queue}.msgs").items():
                    self._put(queue, name.decode() + "-again", body)
            self._put(SETTLEMENT_QUEUE, "twice-1", self._settle("twice-1"))
            self._put(SETTLEMENT_QUEUE, "twice-2", self._settle("twice-1"))
            return True
        return False

    def reorder(self) -> bool:
        with suppress(redis.RedisError):
            for queue in QUEUES:
                ids = self._client.lrange(f"{NAMESPACE}:{queue}", 0, -1)
                self._dice.shuffle(ids)
                if ids:
                    self._client.pipeline().delete(f"{NAMESPACE}:{queue}").rpush(f"{NAMESPACE}:{queue}", *ids).execute()
            return True
        return False

    def withhold(self) -> list[tuple[str, bytes]]:
        """Take the waiting messages out of their queues, to put them back later."""
        with suppress(redis.RedisError):
            return [
                (queue, name)
                for queue in QUEUES
                for name in self._client.lpop(f"{NAMESPACE}:{queue}", count=1000) or []
            ]
        return []

    def put_back(self, withheld: list[tuple[str, bytes]]) -> None:
        with suppress(redis.RedisError):
            for queue, name in withheld:
                self._client.rpush(f"{NAMESPACE}:{queue}", name)

    def forge(self, forgery: str) -> bool:
        """Put into every queue something that no process of Giro wrote."""
        with suppress(redis.RedisError):
            if forgery == "a key for ever":
                self._client.set(WAKE_KEY, b"1")
                return True
            for queue in QUEUES:
                self._forged += 1
                name = f"forged-{self._forged}"
                self._put(queue, name, self._forgery(forgery, queue, name))
            return True
        return False

    def _put(self, queue: str, name: str, body: bytes) -> None:
        self._client.hset(f"{NAMESPACE}:{queue}.msgs", name, body)
        self._client.rpush(f"{NAMESPACE}:{queue}", name)

    def _settle(self, name: str) -> bytes:
        return _message(SETTLEMENT_QUEUE, SETTLE, name)

    def _forgery(self, forgery: str, queue: str, name: str) -> bytes:
        match forgery:
            case "undecodable":
                return b"\xff\x00{"
            case "no message":
                return self._dice.choice([b"[]", b"{}", b"null", b'"settle"'])
            case "unknown actor":
                return _message(queue, "no_such_actor", name)
            case "wrong types":
                wrong = {"args": {"a": 1}, "kwargs": [1], "options": None, "message_id": [], "actor_name": {}}
                field = self._dice.choice(list(wrong))
                return _message(queue, MAKE_GROUP, name, **{field: wrong[field]})
            case "unknown ids":
                return _message(queue, self._dice.choice([MAKE_GROUP, MAKE_STATEMENT]), name, args=[2**62])
            case _:
                return _message("another queue", SETTLE, name)


def _message(queue: str, actor: str, name: str, **fields: object) -> bytes:
    """A message in Dramatiq's format, with some fields replaced."""
    usual = {
        "queue_name": queue,
        "actor_name": actor,
        "args": [],
        "kwargs": {},
        "options": {"redis_message_id": name},
        "message_id": f"id-of-{name}",
        "message_timestamp": 0,
    }
    return json.dumps(usual | fields).encode()
