"""The checker of audit bundles shares no code with Giro: otherwise it would repeat our mistakes."""

import ast
import sys
from pathlib import Path

CHECKER = Path(__file__).parent.parent.parent / "deploy/audit/verify_bundle.py"
ALLOWED = {"cryptography"}


def test_the_checker_imports_nothing_but_the_standard_library_and_cryptography() -> None:
    found = set()
    for node in ast.walk(ast.parse(CHECKER.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add((node.module or "").partition(".")[0])
    assert found - sys.stdlib_module_names == ALLOWED
