"""The options that Dramatiq reads from its environment, once, when it is imported."""

import os
import subprocess
import sys

import pytest

from core.settings import Settings

pytestmark = pytest.mark.processes

PRINT = "from dramatiq import worker; print(worker.CONSUMER_RESTART_DELAY, worker.QUEUE_PREFETCH)"


@pytest.mark.parametrize("module", ["workers.main", "workers.schedule", "core.queue.broker"])
def test_dramatiq_has_our_options_in_every_process_that_uses_it(settings: Settings, module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("dramatiq_")}
    printed = subprocess.run(
        [sys.executable, "-c", f"import {module}; {PRINT}"],
        env=environment | {"GIRO_DATA_DIR": str(settings.data_dir)},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert printed.split() == ["500", "100"], "milliseconds until a consumer retries, messages taken at once"
