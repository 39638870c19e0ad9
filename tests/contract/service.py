"""The service against its own OpenAPI document: `make contract`.

Starts a service of its own (real processes, own data folder, loopback, a free port), signs up two customers with
accounts and money and an operator, and has schemathesis call every operation of /openapi.json, first as a customer
(who must see nothing of the other one), then as the operator. Ends with the verification of the ledger.
Exit status 1 if anything was found.
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
"""Where most calls use ids that exist, and small amounts: made-up ones alone would seldom get past a refusal."""

RATES = {"limit_writes": "100000/10", "limit_anonymous": "100000/10"}
"""Everything is asked for far more often than anybody may, but rates stay on, so that their headers are seen."""

LONGEST_RUN = 180
"""Seconds for one of the two runs; what is planned takes a fraction of it."""


class Persona:
    """Somebody in whose name schemathesis asks. Nobody else knows the password, so no made-up call changes it."""

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
        assert answer.status_code == 200, f"{self.name} cannot log in any more: {answer.text}"
        return Client(self._stack, {"Authorization": f"Bearer {answer.json()['access_token']}"})

    def id(self) -> str:
        user: dict[str, Any] = self.log_in().get("/users/me").json()
        return str(user["id"])

    def credentials(self) -> dict[str, Any]:
        """How schemathesis logs in, and in again when a call has ended the token (Web Fuzzing Commons)."""
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
    """Run both, and say how it went."""
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
    """Have schemathesis call everything as a customer and as an operator, and list what is wrong.

    With a number of `examples`, so many are made up for each call and not those of every run, by a `seed`. One of the
    two runs takes `longest` seconds at most.
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
    """Have schemathesis call everything; return its exit status. What it says is shown when it has found something."""
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
    """Complete the configuration: ask as the first of some, none of whom may see what is another's."""
    credentials = stack.folder / f"{name}.json"
    credentials.write_text(json.dumps({"auth": [person.credentials() for person in personas]}))
    lines = [CONFIGURATION.read_text(), "[auth.wfc]", f'path = "{credentials}"', f'user = "{personas[0].name}"']
    if len(personas) > 1:
        lines.append(f"peers = {json.dumps([person.name for person in personas])}")
    # A customer is let in by some calls only. To an operator every call must have opened once, or it proved nothing.
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
