"""Reports of what nobody expected: sent to `SENTRY_DSN` when it is set, and only then."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import sentry_sdk
from pydantic import SecretStr

from core.logging import configure_logging, get_logger, report_to_sentry
from core.settings import Settings


@pytest.fixture
def reports() -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes reports, on this machine: its DSN, and what it has been sent."""
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://key@127.0.0.1:{server.server_address[1]}/1", received
    sentry_sdk.get_client().close()
    sentry_sdk.init()
    server.shutdown()
    server.server_close()


def fail_and_log(settings: Settings) -> None:
    configure_logging(settings, process="api")
    report_to_sentry(settings)
    password = "".join(reversed("ereh syats taht drowssap a"))  # not to be found in the source line that is reported
    try:
        _ = len(password) / 0
    except ZeroDivisionError:
        get_logger("test").exception("unhandled_exception")
    sentry_sdk.flush(timeout=10)


def test_an_unhandled_exception_is_reported_where_the_setting_says(
    settings: Settings, reports: tuple[str, list[bytes]]
) -> None:
    dsn, received = reports
    fail_and_log(settings.model_copy(update={"sentry_dsn": SecretStr(dsn)}))
    sent = [gzip.decompress(report) if report[:2] == b"\x1f\x8b" else report for report in received]
    assert any(b"ZeroDivisionError" in report for report in sent)
    assert not any(b"a password that stays here" in report for report in sent), "local variables stay here"


def test_without_the_setting_nothing_is_reported(settings: Settings, reports: tuple[str, list[bytes]]) -> None:
    fail_and_log(settings)
    assert reports[1] == []
