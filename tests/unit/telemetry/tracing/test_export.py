"""The start and the stop of traces, the export to a collector, and a collector that is away."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from core import VERSION
from core.ids import new_id
from core.settings import Settings, SettingsError
from core.telemetry import tracing
from core.telemetry.logging import configure_logging, get_logger
from core.telemetry.tracing import FLUSH_SECONDS, Kind, Span, Tracer, requirements, start_tracing, stop_tracing
from core.telemetry.tracing.ids import Caller, in_hex
from tests.collector import Collector, collecting
from tests.waiting import eventually

NOW = 1_700_000_000_000_000
AWAY = "http://127.0.0.1:9"
"""No one listens on this port."""


@pytest.fixture(autouse=True)
def untraced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no traces on after a test, and the library's loggers as they were."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    logger = logging.getLogger("opentelemetry")
    before = logger.handlers[:], logger.propagate
    yield
    stop_tracing()
    logger.handlers[:], logger.propagate = before


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


@pytest.fixture
def on(settings: Settings) -> Settings:
    return settings.model_copy(update={"traces": True})


def started(settings: Settings, process: str = "api") -> Tracer:
    start_tracing(settings, process=process)
    assert tracing.active is not None
    return tracing.active


def some_span(**changed: object) -> Span:
    trace_id = new_id().int
    given = {"name": "n", "kind": Kind.INTERNAL, "trace_id": trace_id, "span_id": 7, "parent_id": 5}
    return Span(**given | {"started_at": NOW, "ended_at": NOW + 5} | changed)  # type: ignore[arg-type]


def test_traces_are_off_by_default(settings: Settings) -> None:
    start_tracing(settings, process="api")
    assert tracing.active is None


def test_the_standard_switch_turns_them_off(on: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    start_tracing(on, process="api")
    assert tracing.active is None


@pytest.mark.processes
@pytest.mark.usefixtures("clean_environment")
def test_off_imports_no_exporter() -> None:
    look = (
        "import sys, api.app, workers.main, workers.schedule, core.cli\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.exporter', 'opentelemetry.sdk.trace'))"
        " or name == 'core.telemetry.tracing.export'])"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("missing", ["opentelemetry.missing", "missing.sdk.trace"])
def test_missing_packages_stop_the_start_with_one_line(
    on: Settings, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(requirements, "MODULES", (requirements.MODULES[0], missing))
    with pytest.raises(SettingsError, match=r"^GIRO_TRACES is set, but OpenTelemetry is not installed: `pip install"):
        start_tracing(on, process="api")
    assert tracing.active is None


@pytest.mark.parametrize("module", requirements.MODULES)
def test_each_package_is_required(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match="is not installed"):
        requirements.check_requirements({})


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' is not supported"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/json' is not"),
        ("OTEL_TRACES_SAMPLER", "xray", "OTEL_TRACES_SAMPLER: 'xray' is not supported"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1", "OpenTelemetry: .*"),
    ],
)
def test_an_invalid_variable_stops_the_start(
    on: Settings, monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=complaint):
        start_tracing(on, process="api")


@pytest.mark.processes
def test_a_service_with_an_invalid_variable_ends_at_once(clean_environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {"GIRO_TRACES": "true", "GIRO_DATA_DIR": str(tmp_path / "data"), "OTEL_TRACES_SAMPLER": "xray"}
    done = subprocess.run(
        [sys.executable, "-m", "core.cli", "up"],
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("giro: OTEL_TRACES_SAMPLER: 'xray' is not supported")


def test_a_span_arrives_as_it_was_made(on: Settings, collector: Collector) -> None:
    tracer = started(on, "settlement")
    root = some_span(
        name="POST /transfers",
        kind=Kind.SERVER,
        parent_id=None,
        attributes={"http.route": "/transfers", "giro.count": 3},
        failed=True,
        caller=Caller(0xAF7, 0xB7A, 1),
    )
    child = some_span(trace_id=root.trace_id, span_id=8, parent_id=7)
    tracer._send(root)
    tracer._send(child)
    stop_tracing()
    received, of_child = collector.spans
    assert (received.name, received.kind, received.failed) == ("POST /transfers", "SERVER", True)
    assert (received.trace_id, received.span_id, received.parent_id) == (in_hex(root.trace_id), f"{7:016x}", "")
    assert (received.started_at, received.ended_at) == (NOW * 1000, (NOW + 5) * 1000)
    assert received.attributes == {"http.route": "/transfers", "giro.count": 3}
    assert received.links == [(in_hex(0xAF7), f"{0xB7A:016x}")]
    assert (of_child.trace_id, of_child.parent_id, of_child.failed) == (received.trace_id, f"{7:016x}", False)
    assert of_child.kind == "INTERNAL"
    assert received.resource["service.name"] == "giro"
    assert received.resource["service.version"] == VERSION
    assert received.resource["service.instance.id"] == "settlement"


def test_the_standard_variables_name_the_service(
    on: Settings, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "bank")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=first,deployment.environment.name=test")
    started(on)._send(some_span())
    stop_tracing()
    (received,) = collector.spans
    assert received.resource["service.name"] == "bank"
    assert received.resource["service.instance.id"] == "first"
    assert received.resource["deployment.environment.name"] == "test"


def test_a_job_is_a_trace_alone_and_its_lines_have_the_trace_id(
    on: Settings, collector: Collector, as_it_was: None, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(on, process="jobs")
    tracer = started(on, "jobs")
    with tracer.job("anchor"):
        get_logger("a").warning("within")
    with pytest.raises(ZeroDivisionError), tracer.job("verify"):
        1 / 0  # noqa: B018
    get_logger("a").warning("after")
    stop_tracing()
    within, after = map(json.loads, capsys.readouterr().err.splitlines())
    good, bad = collector.spans
    assert (good.name, good.parent_id, good.attributes, good.failed) == (
        "job anchor",
        "",
        {"giro.job": "anchor"},
        False,
    )
    assert (bad.name, bad.failed) == ("job verify", True)
    assert within["trace_id"] == good.trace_id != bad.trace_id
    assert "trace_id" not in after


def test_an_unreachable_collector_is_logged_once_a_minute(
    on: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{AWAY}/?key=hidden")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    with capture_logs() as lines:
        tracer = started(on)
        (handler,) = logging.getLogger("opentelemetry").handlers
        began = time.monotonic()
        for _ in range(50):
            tracer._send(some_span())
        assert time.monotonic() - began < 1, "the caller does not wait for the collector"
        eventually(lambda: tracer._send(some_span()) or handler._left_out >= 3)  # type: ignore[attr-defined, func-returns-value]
        (line,) = lines
        assert (line["event"], line["log_level"]) == ("trace_export_warning", "warning")
        assert "hidden" not in str(line)
        handler._next_at = 0.0  # type: ignore[attr-defined] - a minute later
        eventually(lambda: tracer._send(some_span()) or len(lines) > 1)  # type: ignore[func-returns-value]
        assert lines[1]["left_out"] >= 3
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


def test_of_an_exception_only_the_type_is_logged(on: Settings) -> None:
    started(on)
    with capture_logs() as lines:
        logging.getLogger("opentelemetry.exporter").error("no %s: %s", 1, ValueError("http://127.0.0.1/?key=hidden"))
    assert [line["reason"] for line in lines] == ["no 1: ValueError"]


def test_a_collector_that_refuses_is_logged_with_its_status(on: Settings, collector: Collector) -> None:
    collector.status = 401
    with capture_logs() as lines:
        started(on)._send(some_span())
        stop_tracing()
    (line,) = lines
    assert "401" in line["reason"]


def test_a_stop_does_not_wait_for_a_collector_that_is_away(on: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", AWAY)
    tracer = started(on)
    tracer._send(some_span())
    began = time.monotonic()
    with capture_logs():
        stop_tracing()
        assert time.monotonic() - began < FLUSH_SECONDS + 1
    assert tracing.active is None


def test_a_full_queue_drops_spans_and_blocks_no_one(
    on: Settings, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    with capture_logs():
        tracer = started(on)
        for _ in range(500):
            tracer._send(some_span())
        stop_tracing()
    assert len(collector.spans) <= 500
