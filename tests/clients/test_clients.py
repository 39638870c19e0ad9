"""Clients that `make clients` has generated from docs/reference/openapi.json, used against a running service.

Each takes the same walk: sign up, log in, open two accounts, deposit, transfer, wait, read, and meet a refusal.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.contract.document import HOME, PAGE
from tests.flows.stack import Stack

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
HOW_TO = HOME / "docs" / "how-to" / "use-a-generated-client.md"
PYTHON = HOME / ".venv-clients" / "bin" / "python"
PYTHON_CLIENT = HOME / "build" / "clients" / "python"
TYPESCRIPT_CLIENT = HOME / "build" / "clients" / "typescript"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"), measured=False)
    try:
        yield stack.start()
    finally:
        stack.close()


def run(*words: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program and return its output; its errors fail the test."""
    done = subprocess.run(
        words, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compiled(source: str, name: str) -> Path:
    """Compile a TypeScript program next to the client, with every check, and return the result."""
    (TYPESCRIPT_CLIENT / f"{name}.ts").write_text(source)
    run(TYPESCRIPT_CLIENT / "node_modules" / ".bin" / "tsc", "--project", ".", cwd=TYPESCRIPT_CLIENT)
    return TYPESCRIPT_CLIENT / "dist" / f"{name}.js"


def program_of_the_page(language: str) -> str:
    (program,) = re.findall(rf"```{language}\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    return str(program)


def arguments(stack: Stack) -> tuple[str, str, str]:
    token = stack.sign_up("operator").headers["Authorization"].removeprefix("Bearer ")
    return stack.url, f"{uuid4().hex[:12]}@example.com", token


def test_python_client_takes_the_walk(stack: Stack) -> None:
    shown = run(PYTHON, HERE / "walk.py", *arguments(stack), cwd=HOME, PYTHONPATH=str(PYTHON_CLIENT))
    assert shown == "walked\n"


def test_typescript_client_takes_the_walk(stack: Stack) -> None:
    program = compiled((HERE / "walk.ts").read_text(), "walk")
    assert run("node", program, *arguments(stack), cwd=TYPESCRIPT_CLIENT) == "walked\n"


def test_every_call_of_the_document_is_in_the_python_client() -> None:
    for item in json.loads(PAGE.read_text())["paths"].values():
        for operation in item.values():
            module = PYTHON_CLIENT / "giro_client" / "api" / operation["tags"][0] / f"{operation['operationId']}.py"
            assert "def sync_detailed(" in module.read_text()


def test_the_pages_python_program_runs(stack: Stack) -> None:
    program = program_of_the_page("python").replace("http://127.0.0.1:8000", stack.url)
    shown = run(PYTHON, "-c", program, cwd=HOME, PYTHONPATH=str(PYTHON_CLIENT))
    assert shown.count(" 0.00 EUR") == 2
    assert "refused: The available funds do not cover the amount." in shown


def test_the_pages_typescript_program_runs(stack: Stack) -> None:
    program = program_of_the_page("ts").replace("http://127.0.0.1:8000", stack.url)
    shown = run("node", compiled(program, "page"), cwd=TYPESCRIPT_CLIENT)
    assert "refused: The available funds do not cover the amount." in shown


@pytest.mark.parametrize("language", ["python", "typescript"])
def test_wrong_type_is_found_before_the_call(language: str, tmp_path: Path) -> None:
    """The types of the client are real: a checker finds an amount that is a text."""
    if language == "python":
        assert "amount: int\n" in (PYTHON_CLIENT / "giro_client" / "models" / "new_transfer.py").read_text()
        return
    for name in ("client.ts", "schema.ts", "tsconfig.json", "package.json"):
        shutil.copy(TYPESCRIPT_CLIENT / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(TYPESCRIPT_CLIENT / "node_modules")
    body = '{ from_account_id: "a", to_account_id: "b", amount: "1" }'
    (tmp_path / "wrong.ts").write_text(
        f'import {{ giro }} from "./client.js";\nawait giro("x").POST("/transfers", {{ body: {body} }});\n'
    )
    tsc = TYPESCRIPT_CLIENT / "node_modules" / ".bin" / "tsc"
    done = subprocess.run([tsc, "--noEmit"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode != 0
    assert "Type 'string' is not assignable to type 'number'" in done.stdout
