"""The database of the process under test, next to that of another process."""

from collections.abc import AsyncIterator

import pytest

from core.settings import Settings
from core.storage.sqlite.engine import Database


@pytest.fixture
async def writing(settings: Settings, database: Database) -> AsyncIterator[Database]:
    """The database as opened by the process under test; `database` belongs to another process."""
    own = Database(settings)
    yield own
    own.close()
