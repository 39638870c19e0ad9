"""The shell blocks of README and tutorial, word for word, each pasted into one shell against a running service."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.stack import Stack

HOME = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.whole_service,
    pytest.mark.skipif(shutil.which("curl") is None, reason="the blocks use curl"),
]


def blocks(page: str) -> str:
    """Return the shell blocks of a page that call the API, in their order."""
    found = re.findall(r"```sh\n(.*?)```", (HOME / page).read_text(), re.DOTALL)
    return "\n".join(block for block in found if not block.startswith(("make ", "docker ")))


def pasted(script: str, stack: Stack) -> str:
    """Run the script against the service, and return what it prints."""
    programs = str(Path(sys.executable).parent)
    script = script.replace("http://127.0.0.1:8000", stack.url).replace(".venv/bin", programs)
    words = ["sh", "-eu", "-c", f"TOKEN=; {script}"]
    done = subprocess.run(words, env=stack.environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_blocks_of_the_readme_complete_a_transfer(stack: Stack) -> None:
    printed = pasted(blocks("README.md"), stack)
    assert "deposited 100.00 EUR" in printed
    assert '"amount_decimal":"10.50"' in printed
    assert '"status":"completed"' in printed


def test_walk_of_the_tutorial_works_word_for_word(stack: Stack) -> None:
    script = blocks("docs/tutorial/walk-with-curl.md")
    assert script.count("curl") >= 10
    printed = pasted(script, stack)
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
        assert sign in printed, f"{sign} is missing from:\n{printed}"
