"""Logs: every logger writes one JSON object a line, with the process and the request that it belongs to."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from core.settings import Settings, SettingsError
from core.telemetry.logging import configure_logging, get_logger, report_to_sentry

pytestmark = pytest.mark.usefixtures("as_it_was")

Configure = Callable[..., None]
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def configure(settings: Settings) -> Configure:
    """Configure logging as a process does at its start."""

    def with_settings(process: str = "api", **changes: Any) -> None:
        configure_logging(settings.model_copy(update=changes), process=process)

    return with_settings


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """Read the lines logged since the last call; each must be a JSON object."""

    def read() -> list[dict[str, Any]]:
        captured = capsys.readouterr()
        assert captured.out == "", "logs go to standard error"
        return [json.loads(line) for line in captured.err.removesuffix("\n").split("\n")]

    return read


def test_a_line_has_its_message_time_level_logger_and_values(configure: Configure, lines: Lines) -> None:
    configure(process="settlement")
    get_logger("core.something").warning("settled", count=3, account="ä€🧀", nothing=None)
    (line,) = lines()
    when = datetime.fromisoformat(line.pop("timestamp"))
    assert when.utcoffset() == timedelta(0)
    assert line == {
        "event": "settled",
        "level": "warning",
        "logger": "core.something",
        "process": "settlement",
        "count": 3,
        "account": "ä€🧀",
        "nothing": None,
    }


def test_a_library_that_uses_standard_logging_has_the_same_format(configure: Configure, lines: Lines) -> None:
    configure(process="jobs")
    logging.getLogger("some.library").error("lost %s after %d tries", "it", 3, extra={"host": "here"})
    (line,) = lines()
    assert (line["event"], line["level"], line["logger"]) == ("lost it after 3 tries", "error", "some.library")
    assert (line["process"], line["host"]) == ("jobs", "here")


def test_a_request_id_is_on_every_line_while_it_is_bound(configure: Configure, lines: Lines) -> None:
    configure()
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        get_logger("a").info("ours")
        logging.getLogger("b").warning("theirs")
    get_logger("a").info("after")
    assert [line.get("request_id") for line in lines()] == ["r-1", "r-1", None]


def test_with_traces_a_line_with_a_request_id_has_its_trace_id(configure: Configure, lines: Lines) -> None:
    request_id = "01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1f"
    configure(traces=True)
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        logging.getLogger("b").warning("theirs")
    get_logger("a").info("ours", request_id=request_id)
    get_logger("a").info("of no request")
    configure(traces=False)
    get_logger("a").info("without", request_id=request_id)
    trace_id = "01932f4e8c1a7b3d9e5f2a6b8c0d4e1f"
    assert [line.get("trace_id") for line in lines()] == [trace_id, trace_id, None, None]


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_is_a_setting(configure: Configure, lines: Lines, level: str, seen: list[str]) -> None:
    configure(log_level=level)
    for name in ("debug", "info", "warning", "error"):
        getattr(get_logger("a"), name)("something")
    assert [line["level"] for line in lines()] == seen


def test_a_logged_value_cannot_end_the_line(configure: Configure, lines: Lines) -> None:
    configure()
    get_logger("a").info("two\nlines", value="and\r\nmore\u2028")
    (line,) = lines()
    assert (line["event"], line["value"]) == ("two\nlines", "and\r\nmore\u2028")


def test_an_exception_is_logged_with_its_traceback(configure: Configure, lines: Lines) -> None:
    configure()
    error = ValueError("the cause")
    try:
        raise error
    except ValueError as caught:
        get_logger("a").error("failed", exc_info=caught)
        get_logger("a").exception("failed here")
        logging.getLogger("b").exception("failed there")
    for line in lines():
        assert "Traceback (most recent call last)" in line["exception"]
        assert "ValueError: the cause" in line["exception"]
        assert "test_logging.py" in line["exception"]


def test_a_value_that_json_does_not_support_is_still_written(configure: Configure, lines: Lines) -> None:
    configure()
    get_logger("a").info("odd", value=object(), key={1: {2, 3}})
    assert "object" in lines()[0]["value"]


def test_the_format_for_people_is_a_setting(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    configure(log_format="console", process="supervisor")
    get_logger("core.a").info("started", port=8000)
    logging.getLogger("b").warning("theirs")
    ours, theirs = capsys.readouterr().err.splitlines()
    for word in ("started", "port=8000", "process=supervisor", "core.a", "info"):
        assert word in ours
    assert "theirs" in theirs
    with pytest.raises(json.JSONDecodeError):
        json.loads(ours)


@pytest.mark.parametrize(("is_terminal", "is_json"), [(True, False), (False, True)])
def test_a_terminal_gets_text_and_everything_else_json(
    configure: Configure,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_terminal: bool,
    is_json: bool,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    configure(log_format="auto")
    get_logger("a").info("settled")
    assert capsys.readouterr().err.startswith("{") is is_json


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_local_variables(
    configure: Configure, capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    configure(log_format=log_format)
    password = "".join(("correct", " horse"))
    try:
        {}[len(password)]
    except KeyError:
        get_logger("a").exception("broken")
    logged = capsys.readouterr().err
    assert "KeyError: 13" in logged
    assert password not in logged


@pytest.mark.parametrize("noisy", ["alembic", "aiosqlite", "dramatiq.worker", "uvicorn.access", "asyncio"])
def test_libraries_log_from_warning_level_on(configure: Configure, lines: Lines, noisy: str) -> None:
    configure(log_level="debug")
    logging.getLogger(noisy).info("chatter")
    logging.getLogger(noisy).warning("trouble")
    assert [line["event"] for line in lines()] == ["trouble"]


def test_configuring_again_does_not_log_twice(configure: Configure, lines: Lines) -> None:
    configure(process="api")
    configure(process="jobs")
    get_logger("a").info("once")
    (line,) = lines()
    assert line["process"] == "jobs"


def test_a_logger_made_before_the_configuration_follows_it(configure: Configure, lines: Lines) -> None:
    log = get_logger("early")
    log.bind()
    configure()
    log.info("now")
    assert lines()[0]["event"] == "now"


def test_a_dsn_without_the_reporting_package_stops_the_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    report_to_sentry(settings)
    with pytest.raises(SettingsError, match="SENTRY_DSN is set, but sentry-sdk is not installed"):
        report_to_sentry(settings.model_copy(update={"sentry_dsn": SecretStr("https://key@example.invalid/1")}))
