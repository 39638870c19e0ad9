"""The database of the process under test, next to that of another process."""

from collections.abc import AsyncIterator

import pytest

from core.settings import Settings
from core.storage.sqlite.engine import Database


@pytest.fixture
async def writing(settings: Settings, database: Database) -> AsyncIterator[Database]:
    """The database as the process under test has it open; `database` belongs to another process."""
    own = Database(settings)
    yield own
    own.close()
