"""The other processes of a siege: the customer and the attacker, each told what to do as text."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def part(module: str, told: str) -> Iterator[Callable[[float], dict[str, Any]]]:
    """Run a module of this package, and end it in any case.

    Yields a function that waits until the process ends by itself, at most the given seconds, and returns the object
    that it printed.
    """
    # Files, not pipes: neither side waits for the other to read.
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as printed:
        given.write(told)
        given.seek(0)
        process = subprocess.Popen([sys.executable, "-m", f"tests.siege.{module}"], stdin=given, stdout=printed)

        def result(seconds: float) -> dict[str, Any]:
            status = process.wait(seconds)
            assert status == 0, f"the {module} ended with status {status}"
            printed.seek(0)
            found: dict[str, Any] = json.load(printed)
            return found

        try:
            yield result
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
