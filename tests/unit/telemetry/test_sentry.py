"""Reports of unexpected errors: sent to `SENTRY_DSN` if it is set, and only then.

The tests run in a separate process, because the reporter changes libraries for good in the process that it runs in.
"""

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core.telemetry.logging import without_what_was_sent

FAIL_AND_LOG = """
import sentry_sdk
from core.telemetry.logging import configure_logging, get_logger, report_to_sentry
from core.settings import load_settings

settings = load_settings()
configure_logging(settings, process="api")
report_to_sentry(settings)
password = "".join(reversed("ereh syats taht drowssap a"))  # not to be found in the source line that is reported
try:
    len(password) / 0
except ZeroDivisionError:
    get_logger("test").exception("unhandled_exception")
sentry_sdk.flush(timeout=10)
"""


@pytest.fixture
def reports() -> Iterator[tuple[str, list[bytes]]]:
    """A local server that accepts reports: its DSN, and the reports that it received."""
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            report = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(gzip.decompress(report) if report[:2] == b"\x1f\x8b" else report)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://key@127.0.0.1:{server.server_address[1]}/1", received
    server.shutdown()
    server.server_close()


def fail_and_log(dsn: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAIL_AND_LOG],
        env=os.environ | {"SENTRY_DSN": dsn},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert '"exception"' in done.stderr, "it is always logged"


@pytest.mark.processes
@pytest.mark.usefixtures("clean_environment")
def test_an_unhandled_exception_is_reported_without_values_of_the_bank(reports: tuple[str, list[bytes]]) -> None:
    dsn, received = reports
    fail_and_log(dsn)
    assert any(b"ZeroDivisionError" in report for report in received)
    assert not any(b"a password that stays here" in report for report in received), (
        "a report contains no local variables"
    )


SENT = {
    "method": "POST",
    "url": "http://giro.test/login?password=typed",
    "query_string": "password=typed",
    "headers": {"x-api-key": "typed"},
    "cookies": {"session": "typed"},
    "data": {"password": "typed"},
    "env": {"REMOTE_ADDR": "typed"},
}


@pytest.mark.parametrize(
    ("transaction", "source", "kept"),
    [("/cards/{card_id}", "route", True), ("http://giro.test/cards/typed", "url", False)],
)
def test_a_report_contains_no_input_of_a_client(transaction: str, source: str, *, kept: bool) -> None:
    event = {"request": dict(SENT), "user": {"ip_address": "typed"}, "message": "unhandled_exception"}
    event |= {"transaction": transaction, "transaction_info": {"source": source}}
    reported = without_what_was_sent(event, {})
    assert "typed" not in repr(reported)
    assert (reported["message"], reported["request"]) == ("unhandled_exception", {"method": "POST"})
    assert ("transaction" in reported) == kept


@pytest.mark.processes
@pytest.mark.usefixtures("clean_environment")
def test_without_the_setting_nothing_is_reported(reports: tuple[str, list[bytes]]) -> None:
    fail_and_log("")
    assert reports[1] == []
