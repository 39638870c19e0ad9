"""The people of a siege, and how they talk to the service before an attack begins."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.siege.wire import FORM, Answer, Connection, form, request

PASSWORD = "correct horse battery"
ANSWER_SECONDS = 60
LONGEST_WAIT = 15
"""Most seconds that a person waits because of one `Retry-After`."""


@dataclass(slots=True)
class Person:
    """A user of the service, who can be sent to another process as JSON."""

    email: str
    address: str
    token: str = ""
    accounts: list[str] = field(default_factory=list)
    device_headers: dict[str, str] = field(default_factory=dict)
    """Headers that show the service a device which has logged in before."""
    device_fields: dict[str, str] = field(default_factory=dict)
    """The same as fields of the form."""

    def request(self, start: str, body: object = None, headers: Mapping[str, str] = {}) -> bytes:
        """Return a request with the person's token."""
        data = json.dumps(body).encode() if body is not None else b""
        return request(start, address=self.address, token=self.token, body=data, headers=headers)

    def log_in(self) -> bytes:
        """Return a log-in from the person's device."""
        fields = {"username": self.email, "password": PASSWORD, **self.device_fields}
        headers = {"Content-Type": FORM, **self.device_headers}
        return request("POST /login", address=self.address, body=form(fields), headers=headers)

    def sign_up(self) -> bytes:
        """Return the sign-up."""
        return sign_up(self.email, self.address)

    def learn(self, answer: Answer, device: "Device") -> None:
        """Take the tokens of a successful log-in."""
        tokens = json.loads(answer.body)
        self.token = tokens["access_token"]
        for name, value in tokens.items():
            if "device" in name and isinstance(value, str):
                (self.device_headers if device.header else self.device_fields)[device.header or name] = value
        cookie = answer.headers.get("set-cookie", "").partition(";")[0]
        if "device" in cookie.partition("=")[0].lower():
            self.device_headers["Cookie"] = cookie


@dataclass(frozen=True, slots=True)
class Device:
    """How a log-in shows its device: in a header, or if None in a field named as in the answer of the log-in."""

    header: str | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Device":
        """Read it from the OpenAPI document."""
        parameters = document["paths"]["/login"]["post"].get("parameters", [])
        names = [part["name"] for part in parameters if part.get("in") == "header" and "device" in part["name"].lower()]
        return cls(names[0] if names else None)


def sign_up(email: str, address: str) -> bytes:
    """Return the sign-up of a new person."""
    body = json.dumps({"email": email, "password": PASSWORD, "name": "Grace"}).encode()
    return request("POST /signup", address=address, body=body)


def wait_of(answer: Answer) -> float:
    """Return the seconds that an answer asks its client to wait."""
    told = answer.headers.get("retry-after", "1")
    return min(float(told) if told.isdecimal() else 1, LONGEST_WAIT)


@dataclass(frozen=True, slots=True)
class Desk:
    """Sends single requests for the preparation; a refused one is repeated for as long as the caller is patient."""

    port: int

    def send(self, data: bytes, address: str | None = None, *, patience: float = 60) -> Answer:
        """Send a request until its answer is not 429 or 503, or `patience` seconds have passed."""
        until = time.monotonic() + patience
        while (answer := asyncio.run(self._once(data, address))).status in {429, 503} and time.monotonic() < until:
            time.sleep(wait_of(answer))
        return answer

    def ask(self, person: Person, start: str, body: object = None, headers: Mapping[str, str] = {}) -> dict[str, Any]:
        """Send a request of a person and return the JSON of its answer; fails unless that is 2xx."""
        answer = self.send(person.request(start, body, headers), person.address)
        assert answer.status < 300, f"{start}: {answer.status} {answer.body[:500]!r}"
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def let_in(self, person: Person, device: Device) -> Person:
        """Log a person in."""
        answer = self.send(person.log_in(), person.address)
        assert answer.status == 200, answer.body
        person.learn(answer, device)
        return person

    async def _once(self, data: bytes, address: str | None) -> Answer:
        connection = await Connection.open(self.port, address)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await connection.ask(data)
        finally:
            connection.close()
