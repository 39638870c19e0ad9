"""A few seeds of the nemesis against a real service with clients. `make faults KILLS=1000` runs more."""

from pathlib import Path

import pytest

from tests.faults.harness.edn import problems, read_edn
from tests.faults.harness.report import table
from tests.faults.harness.run import ELLE, run

pytestmark = pytest.mark.whole_service

KILLS = 10
LASTING = 2


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1, 2])
def test_no_fault_loses_creates_or_doubles_money(seed: int, tmp_path: Path) -> None:
    result = run(seed, KILLS, tmp_path, LASTING)
    print(table([result]))
    assert result.holds, {check: found for check, found in result.findings.items() if found}
    operations = read_edn((tmp_path / ELLE).read_text())
    assert problems(operations) == []
    assert any(operation["type"] == "ok" and operation["value"][0][0] == "r" for operation in operations)
    # Three clients submit, and the watcher of health asks five times a second. Load delays all of them.
    assert result.transfers > result.ready_answers > 0, "clients were served while the service was ready"
    assert result.detections, "health named a lasting fault"
    assert result.recoveries
