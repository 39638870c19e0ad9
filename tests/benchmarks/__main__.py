"""The list of the benchmarks: `python -m tests.benchmarks`."""

import ast
from pathlib import Path

COMMANDS = {
    "service": "bench-service",
    "compare": "bench",
    "statements": "bench-statements",
    "metrics": "bench-metrics",
    "throttles": "bench-throttles",
    "changes": "bench-changes",
    "ledgers": "bench-ledgers",
    "following": "bench-following",
    "chain": "bench-chain",
    "migration": "bench-migration",
    "scale": "bench-scale",
}
"""The make target of every benchmark, by its module."""


def lines() -> list[str]:
    """Return one line per benchmark: its target, its module, and the title of the module's docstring."""
    return [f"make {target:18}{module:12}{_title(module)}" for module, target in COMMANDS.items()]


def _title(module: str) -> str:
    """Return the docstring's first line without importing the module: some benchmarks need packages of `make bench`."""
    docstring = ast.get_docstring(ast.parse(Path(__file__).with_name(f"{module}.py").read_text()))
    assert docstring is not None
    return docstring.partition("\n")[0].partition(": `make")[0].rstrip(".")


if __name__ == "__main__":
    print(*lines(), sep="\n")
