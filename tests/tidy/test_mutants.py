"""The table of mutants fits the code: each bug can still be put into it, and the tests that are to see it exist."""

from pathlib import Path

import pytest

import core
from tests.mutants.table import MUTANTS, SIMULATION, Mutant

HOME = Path(core.__file__).parent.parent
of_each = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug)


@of_each
def test_each_bug_fits_the_code_and_leaves_valid_python(mutant: Mutant) -> None:
    original = (HOME / mutant.path).read_text()
    text = mutant.applied_to(original)
    assert text != original
    if mutant.path.endswith(".py"):
        compile(text, mutant.path, "exec")


@of_each
def test_the_tests_that_are_to_see_it_exist(mutant: Mutant) -> None:
    for killer in mutant.killers:
        path, _, names = killer.partition("::")
        assert (HOME / path).exists()
        for name in names.split("::") if names else []:
            assert name in (HOME / path).read_text()


def test_no_bug_stands_there_twice_and_some_are_for_the_short_run() -> None:
    assert len({mutant.bug for mutant in MUTANTS}) == len(MUTANTS)
    assert any(mutant.quick for mutant in MUTANTS)
    assert any(SIMULATION in mutant.killers for mutant in MUTANTS)


def test_a_bug_whose_place_has_gone_is_said_to_be_lost() -> None:
    mutant = Mutant("a bug", "core/ids.py", (("no such text", ""),), ())
    with pytest.raises(LookupError, match="0 times"):
        mutant.applied_to("a text")
