"""Fixtures for every kind of test: each test has its own settings and its own migrated database.

Nothing here is a test double: the real migration makes the template once, and each test works on a copy of it.
"""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import structlog

import core  # imported first, because it installs the current SQLite
from core.cli import apply_migrations
from core.settings import PREFIX, Settings, load_settings
from core.storage.engines import Engine, open_engine
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import checkpoint
from tests.builders import Bank, bank_of_two
from tests.compiled_once import share_compiled_statements

pytest_plugins = ("tests.drawing", "tests.time_travel")

gc.disable()  # until all tests are collected: a million objects are made then, and almost all of them stay

JWT_SECRET = "a signing key that only tests use, 32 bytes and more"
UNPREFIXED = ("DATABASE_URL", "REDIS_URL", "JWT_SECRET", "SENTRY_DSN")

NOT_QUICK = (
    "whole_service",
    "processes",
    "clients",
    "compiler",
    "long",
    "container",
    "prometheus",
    "proxy",
    "scanner",
    "strace",
    "systemd",
)
"""Markers of tests that take long, or need a program that is not a Python package."""


MAKERS = {"sqlite": "database_file"}
"""The fixture that makes an empty database of each engine, by the engine's name in `DATABASE_URL`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the storage, service, API and simulation tests run on another engine. An unknown one is an error."""
    parser.addoption("--engine", choices=sorted(MAKERS), default="sqlite", help="engine to run the tests on")


def pytest_configure(config: pytest.Config) -> None:
    """Select the quick tests, unless the command names paths or markers, and let them share the costly work."""
    share_compiled_statements()
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], renderer])  # boxes take seconds to draw
    if config.args_source is not pytest.Config.ArgsSource.ARGS and not config.option.markexpr:
        config.option.markexpr = f"not ({' or '.join(NOT_QUICK)})"


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but never again look at what was made to collect the tests."""
    gc.collect()
    gc.freeze()
    gc.enable()


def _forget_environment(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Remove Giro's variables from the environment, and have no secret files and no `.env` in the working directory."""
    for name in list(os.environ):
        if name.startswith(PREFIX) or name in UNPREFIXED:
            patch.delenv(name)
    patch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    patch.setattr("core.settings.secret_files.CONTAINER_SECRETS", folder / "no-secrets-here")
    patch.chdir(folder)


@pytest.fixture(scope="session")
def template_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a closed database file at the newest migration, with an empty write-ahead log."""
    assert core, "imported first"
    folder = tmp_path_factory.mktemp("template")
    umask = os.umask(0o077)
    try:
        with pytest.MonkeyPatch.context() as patch:
            _forget_environment(patch, folder)
            patch.setenv("GIRO_DATA_DIR", str(folder / "data"))
            settings = load_settings()
            apply_migrations()
    finally:
        os.umask(umask)
    database = Database(settings)
    checkpoint(database)
    database.close()
    return settings.database_path


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without Giro's variables, and a working directory without `.env`: the test's own folder."""
    _forget_environment(monkeypatch, tmp_path)
    return monkeypatch


@pytest.fixture(scope="session")
def shared_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of all tests but for the data folder. They are read once, because that takes ten milliseconds."""
    folder = tmp_path_factory.mktemp("settings")
    with pytest.MonkeyPatch.context() as patch:
        _forget_environment(patch, folder)
        return load_settings(
            _env_file=None,
            data_dir=folder,
            jwt_secret=JWT_SECRET,
            password_hash_rounds=4,
            refusal_seconds=0,
            metrics_port_api=0,
            metrics_port_settlement=0,
            metrics_port_jobs=0,
            metrics_port_scheduler=0,
        )


@pytest.fixture
def settings(clean_environment: pytest.MonkeyPatch, shared_settings: Settings, tmp_path: Path) -> Settings:
    """Settings for one test: its own data folder, no metrics ports, cheap hashes, no held answers, a known key."""
    before, folder = shared_settings.data_dir, tmp_path / "data"
    url = shared_settings.database_url.replace(str(before), str(folder))
    return shared_settings.model_copy(update={"data_dir": folder, "database_url": url})


@pytest.fixture
def database_file(settings: Settings, template_database: Path) -> Path:
    """A migrated, empty database file that is not opened yet."""
    path = settings.database_path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(template_database, path)
    path.chmod(0o600)
    return path


@pytest.fixture
def engine(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Engine]:
    """A migrated, empty database of the engine that `--engine` names; it is closed after the test."""
    request.getfixturevalue(MAKERS[request.config.option.engine])
    engine = open_engine(settings)
    yield engine
    engine.close()


@pytest.fixture
def database(engine: Engine) -> Engine:
    """The engine, by the name that services have for it."""
    return engine


@pytest.fixture(scope="session")
def made_banks(
    template_database: Path, shared_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Path, Bank]]:
    """Make a bank in a closed database file, once for each pair of balances, because that takes twenty milliseconds."""

    @cache
    def made(**balances: int) -> tuple[Path, Bank]:
        path = shutil.copyfile(template_database, tmp_path_factory.mktemp("bank") / "banking.db")
        database = Database(shared_settings.model_copy(update={"database_url": f"sqlite+aiosqlite:///{path}"}))
        bank = bank_of_two(database, **balances)
        checkpoint(database)
        database.close()
        return path, bank

    return made


@pytest.fixture
def bank(request: pytest.FixtureRequest, database: Database, made_banks: Callable[..., tuple[Path, Bank]]) -> Bank:
    """Ada and Bob, each with an account in US dollars. Ada has 10.00, unless the marker `funded` sets both balances."""
    funded = request.node.get_closest_marker("funded")
    balances = funded.kwargs if funded else {"ada_has": 1000}
    is_in_use = database.path.with_name(f"{database.path.name}-wal").exists()
    if is_in_use or "clock" in request.fixturenames:  # a bank made before would be of another time
        return bank_of_two(database, **balances)
    path, bank = made_banks(**balances)
    shutil.copyfile(path, database.path)
    return bank
