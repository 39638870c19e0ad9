"""Stacks of real processes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.flows.stack import Stack


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running service that the tests of one file share; they leave it running.

    Its processes count for the coverage if the file sets `MEASURED`; one such stack is enough. They serve their metrics
    if the file sets `SCRAPED`.
    """
    wanted = {name: getattr(request.module, name.upper(), False) for name in ("measured", "scraped")}
    stack = Stack(tmp_path_factory.mktemp("stack"), **wanted)
    try:
        yield stack.start()
    finally:
        stack.close()


@pytest.fixture
def new_stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Creates services for one test only. They are not started, and not measured unless requested."""
    made: list[Stack] = []

    def make(**settings: object) -> Stack:
        folder = tmp_path / f"stack-{len(made)}"
        folder.mkdir()
        made.append(Stack(folder, **{"measured": False} | settings))
        return made[-1]

    yield make
    for stack in made:
        stack.close()
