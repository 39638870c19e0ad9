"""promtool has no complaints about the metrics of the four ports. It needs Prometheus's tools on the PATH."""

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from core.processes.parts import PROCESSES
from tests.flows.stack import Stack

pytestmark = [pytest.mark.whole_service, pytest.mark.prometheus]


@pytest.fixture(scope="module")
def promtool() -> str:
    """The path of promtool; without it these tests fail, because they would prove nothing."""
    found = shutil.which("promtool")
    if found is None:
        pytest.fail("promtool is not on the PATH: it comes with Prometheus (Debian: apt install prometheus)")
    return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running service after some traffic: successful, refused, and not found."""
    stack = Stack(tmp_path_factory.mktemp("stack"), measured=False, scraped=True)
    try:
        ada = stack.start().sign_up()
        payer, payee = ada.open_account(funds=500), ada.open_account()
        assert ada.submit(payer, payee, Prefer="wait=20").json()["status"] == "completed"
        assert ada.submit(payer, payee, 10**6).status_code == 400
        assert ada.get("/nowhere").status_code == 404
        yield stack
    finally:
        stack.close()


def complaints(promtool: str, text: str) -> str:
    """Return promtool's findings about served metrics."""
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("process", PROCESSES)
def test_promtool_has_no_findings(stack: Stack, promtool: str, process: str) -> None:
    assert complaints(promtool, stack.scrape(process)) == ""


def test_promtool_reports_bad_metrics(promtool: str) -> None:
    unnamed = "# HELP giro_things Things.\n# TYPE giro_things counter\ngiro_things 1\n"
    assert "_total" in complaints(promtool, unnamed)
