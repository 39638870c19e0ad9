"""One template for all sequences, and a count of the steps."""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from core.settings import load_settings
from tests.simulation.template import Template, make_template


@pytest.fixture(scope="session")
def template(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """The bank that every sequence starts with."""
    folder = tmp_path_factory.mktemp("simulated")
    settings = load_settings(_env_file=None, data_dir=folder, jwt_secret="x" * 32, sqlite_cache_mb=1)
    settings.database_path.parent.mkdir(parents=True, exist_ok=True)
    settings.database_path.write_bytes(template_database.read_bytes())
    return make_template(settings)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Turn logging off: a simulation causes a thousand failures a second."""
    configuration = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**configuration)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the counts of sequences and steps of all test processes together."""
    played: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        played.update(dict(getattr(report, "user_properties", ())).get("played", {}))
    if sequences := played.pop("sequences", 0):
        steps = ", ".join(f"{step} {count:,}" for step, count in sorted(played.items()))
        terminalreporter.write_line(f"simulated {sequences:,} sequences of {played.total():,} steps: {steps}")
