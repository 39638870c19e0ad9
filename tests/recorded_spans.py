"""Spans of the process under test, kept in a list instead of exported."""

from collections.abc import Callable

import pytest

from core.telemetry import tracing
from core.telemetry.tracing import Span, Tracer


def record_spans(monkeypatch: pytest.MonkeyPatch, is_sampled: Callable[[int], bool] = lambda _id: True) -> list[Span]:
    """Turn traces on until the end of the test, and return the list that grows with each span of a sampled trace."""
    spans: list[Span] = []
    monkeypatch.setattr(tracing, "active", Tracer(is_sampled, spans.append, lambda: None))
    return spans
