"""Documents are drawn in one process for all tests. The service's own one belongs to an event loop; each test has one.

It is a real process that starts with the first document. To start the service's own one takes a second.
"""

import asyncio
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from anyio import to_process

own_run_sync = to_process.run_sync


@pytest.fixture(scope="session", autouse=True)
def drawing_is_shared() -> Iterator[None]:
    """Draw in the shared process, unless a test uses `own_drawing`."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process, pytest.MonkeyPatch.context() as patch:

        async def run_sync(work: Callable[..., Any], *arguments: Any) -> Any:
            return await asyncio.get_running_loop().run_in_executor(process, work, *arguments)

        patch.setattr(to_process, "run_sync", run_sync)
        yield


@pytest.fixture
def own_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw in the service's own process, for tests of what happens when that one dies."""
    monkeypatch.setattr(to_process, "run_sync", own_run_sync)
