"""A bare pytest knows every marker that it has to leave out."""

import tomllib
from pathlib import Path

import core
from tests.conftest import NOT_QUICK

SETTINGS = tomllib.loads((Path(core.__file__).parent.parent / "pyproject.toml").read_text())


def test_every_marker_but_that_of_the_bank_is_left_out_of_the_quick_tests() -> None:
    declared = {line.partition(":")[0] for line in SETTINGS["tool"]["pytest"]["ini_options"]["markers"]}
    assert declared - {"funded(ada_has=0, bob_has=0)"} == set(NOT_QUICK)
