"""The engines of these tests. For the history each gives an empty database, migrated while the test runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.conformance.playing import NewDatabase
from tests.conftest import MAKERS
from tests.engines import SITES, NewSite, Site, Wrap, as_it_is
from tests.old_ledger import upgrade


@pytest.fixture(scope="session")
def new_sqlite(shared_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> NewDatabase:
    """Make SQLite databases, each in its own folder and by its own migration."""
    numbers = count(1)

    @contextmanager
    def made() -> Iterator[Database]:
        folder = tmp_path_factory.mktemp(f"history{next(numbers)}")
        url = f"sqlite+aiosqlite:///{folder}/banking.db"
        settings = shared_settings.model_copy(update={"data_dir": folder, "database_url": url})
        upgrade(settings, "head")
        database = Database(settings)
        try:
            yield database
        finally:
            database.close()

    return made


@pytest.fixture(scope="session", params=["sqlite"])
def new_database(request: pytest.FixtureRequest) -> NewDatabase:
    """Make databases of each engine in turn. A new engine needs a fixture like `new_sqlite`, and its name here."""
    made: NewDatabase = request.getfixturevalue(f"new_{request.param}")
    return made


@pytest.fixture(params=sorted(SITES))
def new_site(request: pytest.FixtureRequest, settings: Settings) -> Iterator[NewSite]:
    """Make the site of each engine in turn: a migrated, empty database."""
    made: list[Site] = []

    def make(wrap: Wrap = as_it_is) -> Site:
        made.append(SITES[request.param](settings, wrap))
        return made[-1]

    request.getfixturevalue(MAKERS[request.param])
    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(new_site: NewSite) -> Site:
    """The site of an engine as it is."""
    return new_site()
