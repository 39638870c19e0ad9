"""Connections that are not fair: odd requests, slow heads, half-open connections, and thousands of silent ones."""

import asyncio
import gzip
import random
import resource
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from tests.siege.wire import loopback_of

ADDRESS = "198.19.9.9"
LOCAL = (loopback_of(ADDRESS), 0)
SILENT = 2000
"""Silent connections: as many as one process accepts."""
SILENT_A_SECOND = 500
ODD = 24
SLOW = 32
HALF_OPEN = 8
ANSWER_SECONDS = 3

_BOMB = gzip.compress(b'{"email": "' + b"a" * 1_000_000 + b'"}')
_HEAD = b"POST /signup HTTP/1.1\r\nHost: bank.example\r\nContent-Type: application/json\r\n"
REQUESTS = (
    b"GET /health/live HTTP/1.1\r\nHost: bank.example\r\nHost: other.example\r\n\r\n",
    b"GET /health/live HTTP/1.1\r\n\r\n",
    _HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(_BOMB) + _BOMB,
    _HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    _HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    _HEAD + b"TE: unknown\r\nContent-Length: 2\r\n\r\n{}",
    _HEAD + b"Content-Length: 9999999999\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: bank.example\r\n" + b"X-Long: " + b"a" * 20_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: bank.example\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
)


def parts(port: int, seed: int, answers: Counter[str]) -> list[Coroutine[Any, Any, None]]:
    """Return the loops of this attack; each counts what happened to it in `answers`."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return [
        *(_odd(port, random.Random(f"{seed} {number}"), answers) for number in range(ODD)),
        *(_slow(port, answers) for _ in range(SLOW)),
        *(_half_open(port) for _ in range(HALF_OPEN)),
        *(_silent(port, number / SILENT_A_SECOND, answers) for number in range(SILENT)),
    ]


async def _open(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, local_addr=LOCAL)


async def _odd(port: int, chance: random.Random, answers: Counter[str]) -> None:
    """Send odd requests, each on its own connection."""
    while True:
        answers[await _answer_of(port, chance.choice(REQUESTS))] += 1
        await asyncio.sleep(0.01)


async def _answer_of(port: int, data: bytes) -> str:
    try:
        reader, writer = await _open(port)
    except OSError:
        return "not connected"
    try:
        writer.write(data)
        async with asyncio.timeout(ANSWER_SECONDS):
            head = await reader.readline()
        return head[9:12].decode() if head.startswith(b"HTTP/1.1 ") else "closed"
    except (TimeoutError, OSError) as failed:
        return "no answer" if isinstance(failed, TimeoutError) else "closed"
    finally:
        writer.transport.abort()


async def _slow(port: int, answers: Counter[str]) -> None:
    """Send one byte of a head a second."""
    while True:
        try:
            reader, writer = await _open(port)
        except OSError:
            await asyncio.sleep(1)
            continue
        try:
            for number in range(len(_HEAD)):
                writer.write(_HEAD[number : number + 1])
                await asyncio.sleep(1)
                if reader.at_eof():
                    break
            answers["slow head ended"] += 1
        except OSError:
            answers["slow head ended"] += 1
        finally:
            writer.transport.abort()


async def _half_open(port: int) -> None:
    """Close one direction after half a head, or abort after it."""
    for number in range(1_000_000):
        try:
            _, writer = await _open(port)
            writer.write(_HEAD[:40])
            if number % 2:
                writer.write_eof()
            await asyncio.sleep(0.05)
            writer.transport.abort()
        except OSError:
            await asyncio.sleep(0.2)


async def _silent(port: int, after: float, answers: Counter[str]) -> None:
    """Hold a connection that sends nothing, and open another when the service closes it."""
    await asyncio.sleep(after)
    while True:
        try:
            reader, writer = await _open(port)
        except OSError:
            answers["not connected"] += 1
            await asyncio.sleep(2)
            continue
        try:
            await reader.read()
        except OSError:
            pass
        finally:
            writer.transport.abort()
        answers["silent connection ended"] += 1
        await asyncio.sleep(1)
