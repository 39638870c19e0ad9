"""Plain `pytest` excludes every marker of slow tests."""

import tomllib
from pathlib import Path

import core
from tests.conftest import NOT_QUICK

SETTINGS = tomllib.loads((Path(core.__file__).parent.parent / "pyproject.toml").read_text())


QUICK = {"checks_at_start", "funded(ada_has=0, bob_has=0)", "thorough"}


def test_quick_tests_exclude_every_other_marker() -> None:
    declared = {line.partition(":")[0] for line in SETTINGS["tool"]["pytest"]["ini_options"]["markers"]}
    assert declared - QUICK == set(NOT_QUICK)
