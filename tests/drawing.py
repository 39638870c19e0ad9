"""Documents are drawn in one process for all tests. The service's own one belongs to an event loop; each test has one.

It is a real process that starts with the first document. To start the service's own one takes a second.
"""

import asyncio
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from anyio import to_process

own_run_sync = to_process.run_sync


@pytest.fixture(scope="session", autouse=True)
def drawing_is_shared() -> Iterator[None]:
    """Draw in the shared process, unless a test uses `own_drawing`."""
    spawn = multiprocessing.get_context("spawn")
    # Its working directory outlives the test in which it starts.
    pool = ProcessPoolExecutor(1, spawn, initializer=os.chdir, initargs=("/",))
    with pool as process, pytest.MonkeyPatch.context() as patch:

        async def run_sync(work: Callable[..., Any], *arguments: Any) -> Any:
            return await asyncio.get_running_loop().run_in_executor(process, work, *arguments)

        patch.setattr(to_process, "run_sync", run_sync)
        yield


@pytest.fixture
def own_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw in the service's own process, for tests of what happens when that one dies."""
    monkeypatch.setattr(to_process, "run_sync", own_run_sync)
