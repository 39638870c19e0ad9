"""A short list of seeds: clients and a nemesis at a real service. `make faults KILLS=1000` goes on."""

from pathlib import Path

import pytest

from tests.faults.harness.report import table
from tests.faults.harness.run import run

pytestmark = pytest.mark.whole_service

KILLS = 10


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_done_to_the_service_no_money_is_lost_made_or_moved_twice(seed: int, tmp_path: Path) -> None:
    result = run(seed, KILLS, tmp_path)
    print(table([result]))
    assert result.holds, result.findings
    assert result.transfers > 100, "clients were served meanwhile"
    assert result.recoveries
