"""The README's walk, word for word: its blocks run in one shell, against a running service."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.stack import Stack

pytestmark = pytest.mark.whole_service

README = Path(__file__).parents[2] / "README.md"


def walk() -> str:
    """Return the shell blocks of the walk, in order, as a reader pastes them."""
    section = README.read_text().split("\n## A walk")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))


@pytest.mark.skipif(shutil.which("curl") is None, reason="the walk needs curl")
def test_walk_works_word_for_word(stack: Stack) -> None:
    programs = str(Path(sys.executable).parent)
    script = walk().replace("http://127.0.0.1:8000", stack.url).replace(".venv/bin", programs)
    assert script.count("curl") >= 10
    done = subprocess.run(
        ["sh", "-eu", "-c", script], env=stack.environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for sign in (
        '"email":"ada@example.com"',
        "deposited 100.00 USD",
        '"status":"pending"',
        '"status":"completed"',
        "preference-applied: wait=5",
        "idempotent-replayed: true",
        '"code":"insufficient_funds"',
        "credit 100.00 balance 100.00 Deposit",
        "every rule holds",
    ):
        assert sign in done.stdout, f"{sign} is missing from:\n{done.stdout}"
