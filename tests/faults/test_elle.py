"""The export for Elle: what clients did becomes these operations, and our own check finds broken ones."""

from dataclasses import replace
from typing import Any

import pytest

from tests.faults.harness.edn import problems, read_edn
from tests.faults.harness.elle import export
from tests.faults.harness.history import History, ListRead, Submission


def submission(key: str, at: float, **seen: Any) -> Submission:
    return Submission(**{"key": key, "payer": "ada", "payee": "bob", "amount": 1, "invoked_at": at} | seen)


def history() -> History:
    """Four transfers of one client (completed, refused, unknown, completed), and three reads."""
    completed = {"id": "t1", "status": "completed", "ended_at": 2.0}
    transfers = [
        submission("teller-0-1", 1.0, **completed),
        submission("teller-0-2", 3.0, refused="insufficient_funds"),
        submission("teller-0-3", 4.0, doubtful=True),
        submission("teller-0-4", 5.0, **completed | {"id": "t4", "ended_at": 6.0}),
    ]
    reads = [
        ListRead("ada", 1.5, 1.6, ["deposit"]),
        ListRead("ada", 2.5, 2.6, None),
        ListRead("ada", 6.5, 6.6, ["deposit", "t1", "t4"]),
    ]
    return History(transfers, reads, {"deposit"})


def test_history_becomes_operations_in_the_order_of_their_times() -> None:
    lines = export(history()).splitlines()
    assert lines[0] == (
        "{:index 0 :time 1000000000 :process 0 :type :invoke :f :txn :value [[:append 1 1] [:append 2 1]]}"
    )
    operations = read_edn("\n".join(lines))
    assert [(operation["process"], operation["type"]) for operation in operations] == [
        *[(0, "invoke"), (1, "invoke"), (1, "ok"), (0, "ok")],
        *[(1, "invoke"), (0, "invoke"), (0, "fail"), (0, "invoke"), (0, "info")],
        *[(2, "invoke"), (2, "ok"), (1, "fail"), (1, "invoke"), (1, "ok")],
    ]
    assert operations[2]["value"] == [["r", 1, []]]
    assert operations[-1]["value"] == [["r", 1, [1, 4]]]
    assert problems(operations) == []


@pytest.mark.parametrize(
    ("transfers", "found"),
    [
        (["t4", "t1"], "was read as"),
        (["t1"], "lacks [4]"),
        (["t1", "t4", "t4"], "twice"),
        (["t1", "t4", "nobody's"], "nobody has appended"),
    ],
    ids=["another order", "lost", "doubled", "unknown"],
)
def test_contradicting_read_is_found(transfers: list[str], found: str) -> None:
    seen = history()
    seen.lists.insert(2, ListRead("ada", 6.2, 6.3, ["deposit", "t1", "t4"]))
    seen.lists[3] = replace(seen.lists[3], transfers=["deposit", *transfers])
    assert any(found in problem for problem in problems(read_edn(export(seen))))


def test_transfer_that_was_refused_and_is_listed_is_found() -> None:
    seen = history()
    seen.submissions[3].cancelled = True
    assert "list 1 has 4, which failed" in problems(read_edn(export(seen)))


def test_malformed_history_is_found() -> None:
    operations = read_edn(export(history()))
    assert "the indexes are not dense" in problems(operations[1:])
    twice = [operation | {"index": index} for index, operation in enumerate([operations[0], *operations])]
    assert "process 0 has invoke after invoke" in problems(twice)
