"""The service against its own OpenAPI document: `make contract`.

It starts a throwaway service (real processes, separate data folder, loopback, a free port), signs up an operator and
two customers with funded accounts, and lets schemathesis call every operation of /openapi.json: first as a customer,
who must see nothing of the other one, then as the operator. At the end it verifies the ledger. The exit status is 1 if
there were findings.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2

from tests.contract.hooks import SPARED
from tests.flows.stack import Client, Stack
from tests.unthrottled import UNTHROTTLED

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
PLACES = {
    "path.account_id": "accounts",
    "path.transfer_id": "transfers",
    "body.account_id": "accounts",
    "body.from_account_id": "accounts",
    "body.to_account_id": "accounts",
    "body.amount": "amounts",
}
"""Most calls use existing ids and small amounts, because random values would nearly always be refused."""

RATES = dict.fromkeys(("limit_reads", "limit_writes", "limit_anonymous"), "100000/10")
"""Limits are far above normal use, but rates stay on, so that their headers are checked."""

LONGEST_RUN = 180
"""Time limit in seconds for one of the two runs; a run normally takes a fraction of it."""


class Persona:
    """A user whose calls schemathesis makes. It does not know the password, so that no generated call changes it."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.name = name
        self.email = f"{name}@example.com"
        self._stack = stack
        self._password = secrets.token_hex(16)
        if name == "operator":
            made = stack.giro("operator", "create", self.email, stdin=self._password)
            assert made.returncode == 0, made.stderr
        else:
            answer = stack.client.post("/signup", json={"email": self.email, "password": self._password})
            assert answer.status_code == 201, answer.text

    def log_in(self) -> Client:
        answer = self._stack.client.post("/login", data={"username": self.email, "password": self._password})
        assert answer.status_code == 200, f"{self.name} can no longer log in: {answer.text}"
        return Client(self._stack, {"Authorization": f"Bearer {answer.json()['access_token']}"})

    def id(self) -> str:
        user: dict[str, Any] = self.log_in().get("/users/me").json()
        return str(user["id"])

    def credentials(self) -> dict[str, Any]:
        """Return how schemathesis logs in, also again after a call has revoked the token (Web Fuzzing Commons)."""
        form = httpx2.QueryParams({"username": self.email, "password": self._password})
        return {
            "name": self.name,
            "loginEndpointAuth": {
                "verb": "POST",
                "endpoint": "/login",
                "contentType": "application/x-www-form-urlencoded",
                "payloadRaw": str(form),
                "token": {
                    "extractFrom": "body",
                    "extractSelector": "/access_token",
                    "sendIn": "header",
                    "sendName": "Authorization",
                    "sendTemplate": "Bearer {token}",
                },
            },
        }


def main() -> int:
    """Run both, and print the result."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="giro-contract-") as folder:
        stack = Stack(Path(folder), measured=False, **UNTHROTTLED | RATES)
        try:
            found = check(stack.start())
        finally:
            stack.close()
    print(f"contract: {'; '.join(found) or 'nothing found'} ({time.monotonic() - started:.0f} s)")
    return 1 if found else 0


def check(stack: Stack, *, examples: int = 0, seed: int = 0, longest: float = LONGEST_RUN) -> list[str]:
    """Let schemathesis call everything as a customer and as an operator, and return the findings.

    With `examples`, it generates this number of cases per call from `seed`, instead of the same cases in every run.
    Each of the two runs takes at most `longest` seconds.
    """
    ada, grace, operator = (Persona(stack, name) for name in ("ada", "grace", "operator"))
    known: dict[str, list[Any]] = {"accounts": [], "transfers": [], "amounts": [1, 2, 50]}
    for customer in (ada, grace):
        client = customer.log_in()
        payer, payee = client.open_account(funds=100_000), client.open_account()
        known["accounts"] += [payer, payee]
        known["transfers"].append(client.submit(payer, payee, Prefer="wait=20").json()["id"])
    spared = ",".join(person.id() for person in (ada, grace, operator))
    found = []
    for name, personas in {"customer": [ada, grace], "operator": [operator]}.items():
        configuration = _configuration(stack, name, personas, known)
        if examples:
            text = configuration.read_text().replace(
                "deterministic = true\nmax-examples = 10", f"max-examples = {examples}"
            )
            configuration.write_text(f"seed = {seed}\n{text}")
        if _run(stack, name, configuration, spared, longest):
            found.append(f"findings as {name}")
        for person in personas:
            person.log_in()
    verified = stack.giro("verify")
    return found if verified.returncode == 0 else [*found, verified.stdout.strip()]


def _run(stack: Stack, name: str, configuration: Path, spared: str, longest: float) -> int:
    """Let schemathesis call everything; return its exit status. Its output is printed if it has findings."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration)]
    command += ["run", f"{stack.url}/openapi.json", "--no-color"]
    done = subprocess.run(
        command,
        env=os.environ | {SPARED: spared},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=longest,
    )
    if done.returncode:
        print(done.stdout)
    numbers = re.findall(r"^ +(?:Tested: .+|.+ generated, .+)$", done.stdout, re.MULTILINE)
    print(
        f"as {name}: exit status {done.returncode}, operations", "; ".join(map(str.strip, numbers)).lower(), flush=True
    )
    return done.returncode


def _configuration(stack: Stack, name: str, personas: list[Persona], known: dict[str, list[Any]]) -> Path:
    """Complete the configuration: call as the first of several users, none of whom may see another's data."""
    credentials = stack.folder / f"{name}.json"
    credentials.write_text(json.dumps({"auth": [person.credentials() for person in personas]}))
    lines = [CONFIGURATION.read_text(), "[auth.wfc]", f'path = "{credentials}"', f'user = "{personas[0].name}"']
    if len(personas) > 1:
        lines.append(f"peers = {json.dumps([person.name for person in personas])}")
    # A customer may make only some calls. Every call must have succeeded once for an operator, or it proved nothing.
    must_let_in = ["missing_auth"] if name == "operator" else []
    lines.append(f"[warnings]\ndisplay = {json.dumps(must_let_in)}\nfail-on = {json.dumps(must_let_in)}")
    lines += [f"[dictionaries.{kind}]\nvalues = {json.dumps(ids)}" for kind, ids in known.items()]
    lines.append("[parameters]")
    lines += [f'"{place}" = {{ dictionary = "{kind}", probability = 0.6 }}' for place, kind in PLACES.items()]
    path = stack.folder / f"{name}.toml"
    path.write_text("\n".join(lines))
    return path


if __name__ == "__main__":
    sys.exit(main())
