"""Fixtures for unit tests: Hypothesis without a deadline, and a reading session like the API's."""

import logging
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from hypothesis import settings as hypothesis_settings
from sqlalchemy.ext.asyncio import AsyncSession

from core.storage.sqlite.engine import Database
from tests.thorough import examples

hypothesis_settings.register_profile(
    "giro", deadline=None, max_examples=examples(quick=30, thorough=100), derandomize=False
)
hypothesis_settings.load_profile("giro")


@pytest.fixture
async def session(database: Database) -> AsyncIterator[AsyncSession]:
    """A reading session; its first query opens the snapshot, so write before it."""
    async with AsyncSession(database.async_reader) as session:
        yield session
    await database.async_reader.dispose()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter; pytest's own are closed to others."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def as_it_was() -> Iterator[None]:
    """Restore the umask and the logging of the process, for tests of code that changes them."""
    umask = os.umask(0o077)
    os.umask(umask)
    root = logging.getLogger()
    handlers, level, configuration = root.handlers[:], root.level, structlog.get_config()
    yield
    os.umask(umask)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**configuration)
