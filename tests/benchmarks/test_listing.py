"""The list of benchmarks and the page about them are complete."""

from pathlib import Path

import pytest

from tests.benchmarks.__main__ import COMMANDS, lines

HERE = Path(__file__).parent
MAKEFILE = (HERE.parent.parent / "Makefile").read_text()


def test_every_target_that_runs_a_benchmark_is_listed() -> None:
    run = {
        line.split("tests.benchmarks.")[1].split()[0]
        for line in MAKEFILE.splitlines()
        if "-m tests.benchmarks." in line
    }
    assert run == set(COMMANDS)


@pytest.mark.parametrize(("module", "target"), COMMANDS.items())
def test_benchmark_has_its_target_and_its_section_on_the_page(module: str, target: str) -> None:
    recipe = MAKEFILE.partition(f"\n{target}: ")[2].partition("\n\n")[0]
    assert f"-m tests.benchmarks.{module}" in recipe
    assert f"`make {target}`" in (HERE / "README.md").read_text()


def test_every_line_has_a_title() -> None:
    assert len(lines()) == len(COMMANDS)
    assert "make bench-chain" in "\n".join(lines())
    assert all(len(line.split(maxsplit=3)) == 4 for line in lines())
