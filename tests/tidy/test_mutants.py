"""The table of mutants fits the code: each bug can still be applied, and the tests that must find it exist."""

from pathlib import Path

import pytest

import core
from tests.mutants.table import MUTANTS, SIMULATION, Mutant

HOME = Path(core.__file__).parent.parent
of_each = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug)


@of_each
def test_each_bug_applies_and_leaves_valid_python(mutant: Mutant) -> None:
    original = (HOME / mutant.path).read_text()
    text = mutant.applied_to(original)
    assert text != original
    if mutant.path.endswith(".py"):
        compile(text, mutant.path, "exec")


@of_each
def test_tests_of_each_bug_exist(mutant: Mutant) -> None:
    for killer in mutant.killers:
        path, _, names = killer.partition("::")
        assert (HOME / path).exists()
        for name in names.split("::") if names else []:
            assert name in (HOME / path).read_text()


def test_bugs_are_unique_and_some_are_in_the_short_run() -> None:
    assert len({mutant.bug for mutant in MUTANTS}) == len(MUTANTS)
    assert any(mutant.quick for mutant in MUTANTS)
    assert any(SIMULATION in mutant.killers for mutant in MUTANTS)


def test_bug_without_its_place_raises_lookup_error() -> None:
    mutant = Mutant("a bug", "core/ids.py", (("no such text", ""),), ())
    with pytest.raises(LookupError, match="0 times"):
        mutant.applied_to("a text")
