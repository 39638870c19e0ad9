"""The command `giro`, with an API that counts nothing: the other side of `make bench-metrics`."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from prometheus_client.metrics import MetricWrapperBase

from core.cli import main
from core.processes import run
from core.processes.child import Child
from core.settings import Settings
from core.telemetry import metrics

FACTORY = "tests.benchmarks.unmeasured:create_app"


class Nothing:
    """A metric that ignores all values."""

    def labels(self, *_values: Any) -> "Nothing":
        return self

    def inc(self, amount: float = 1) -> None:
        pass

    set = observe = inc

    def time(self) -> AbstractContextManager[None]:
        return nullcontext()


def create_app() -> FastAPI:
    """Turn off all metrics, then create the application for uvicorn."""
    for module in metrics.MODULES:
        for name, item in vars(module).items():
            if isinstance(item, MetricWrapperBase):
                setattr(module, name, Nothing())
    from api.app import create_app as with_metrics

    return with_metrics()


def children(settings: Settings, listeners: Sequence[int] = ()) -> list[Child]:
    """List the parts of the service, with this API in place of the normal one."""
    listed = []
    for child in real_children(settings, listeners):
        words = [FACTORY if word == "api.app:create_app" else word for word in child.command]
        listed.append(replace(child, command=words))
    assert FACTORY in listed[-1].command
    return listed


if __name__ == "__main__":
    real_children = run.service_children
    run.service_children = children
    main()
