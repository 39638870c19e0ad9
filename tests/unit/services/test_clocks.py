"""In doubt about the clock, money moves, but no month is closed and nothing expires until an operator confirms."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import core.clock
from core.cli.console import the_bank
from core.clock import to_us
from core.domain.clocks import Doubt
from core.services import clocks
from core.services.identity import log_ins
from core.services.statements import documents, making
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, accepted, add_document, author, from_ada_to_bob, rows, settle_all, status_of
from tests.months import UTC_ZONE, close_months, months_of, work_off
from tests.time_travel import Clock
from tests.unit.cli.test_cli import giro
from workers.jobs import backups


class Machine:
    """A machine whose wall clock, uptime and start a test sets."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.uptime = 7_000_000_000
        self.boot = "the first start"

    def pass_time(self, **by: float) -> None:
        """Let both clocks move on."""
        self.clock.advance(**by)
        self.uptime += timedelta(**by) // timedelta(microseconds=1)

    def jump(self, **by: float) -> None:
        """Let the wall clock jump alone."""
        self.clock.advance(**by)

    def start_again(self, **off: float) -> None:
        """Switch the machine off for a time."""
        self.clock.advance(**off)
        self.uptime, self.boot = 3_000_000, f"{self.boot}, again"


@pytest.fixture
def machine(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(clock)
    monkeypatch.setattr(core.clock, "uptime_us", lambda: machine.uptime)
    monkeypatch.setattr(core.clock, "boot_id", lambda: machine.boot)
    return machine


@pytest.fixture
def bank(machine: Machine, database: Database, bank: Bank) -> Bank:
    """A bank in January, whose clocks have just been observed."""
    clocks.observe(database)
    return bank


def doubt(database: Database) -> Doubt | None:
    with database.reader.connect() as connection:
        return clocks.state(connection).doubt


def accept(database: Database) -> None:
    assert giro("clock", "accept").exit_code == 0


# --- what the observation remembers ---


def test_forty_days_without_giro_on_a_running_machine_need_no_word(
    machine: Machine, database: Database, bank: Bank
) -> None:
    machine.pass_time(days=40)
    assert doubt(database) is None
    assert close_months(database) == 1


def test_forty_days_without_the_machine_need_one_word_and_lose_nothing(
    machine: Machine, database: Database, bank: Bank
) -> None:
    machine.start_again(days=40)
    transfer = accepted(database, from_ada_to_bob(bank, 100))
    settle_all(database)
    assert status_of(database, transfer) == "completed"
    assert (doubt(database), close_months(database)) == (Doubt.UNKNOWN_GAP, 0)
    accept(database)
    assert (doubt(database), close_months(database)) == (None, 1)
    work_off(database)
    assert months_of(database, bank.ada_account) == ["2026-01"]


def test_a_weekend_without_customers_and_a_quick_restart_are_no_reason_to_doubt(
    machine: Machine, database: Database, bank: Bank
) -> None:
    machine.pass_time(days=4)
    clocks.observe(database)
    machine.start_again(hours=3)
    assert doubt(database) is None


def test_a_jump_stays_in_doubt_until_the_clock_is_corrected(machine: Machine, database: Database, bank: Bank) -> None:
    machine.jump(days=400)
    for _ in range(3):
        machine.pass_time(minutes=1)
        assert clocks.observe(database).doubt is Doubt.JUMPED
    machine.jump(days=-400)
    assert clocks.observe(database).doubt is None


def test_a_small_correction_is_trusted_and_the_next_one_is_measured_from_it(
    machine: Machine, database: Database, bank: Bank
) -> None:
    for _ in range(3):
        machine.jump(hours=20)
        assert clocks.observe(database).doubt is None


def test_legs_of_a_clock_that_was_ahead_are_confirmed_once(machine: Machine, database: Database, bank: Bank) -> None:
    machine.jump(days=60)
    accepted(database, from_ada_to_bob(bank, 100))
    settle_all(database)
    machine.jump(days=-60)
    assert doubt(database) is Doubt.BEHIND_LEDGER
    accept(database)
    machine.pass_time(days=1)
    accepted(database, from_ada_to_bob(bank, 100))
    settle_all(database)
    assert clocks.observe(database).doubt is None, "its legs have the time of the newest leg"


# --- what waits ---


def test_no_month_is_closed_and_none_is_overdue_in_doubt(machine: Machine, database: Database, bank: Bank) -> None:
    machine.jump(days=400)
    with database.reader.connect() as connection:
        assert making.month_due(connection, UTC_ZONE) is None
        assert making.overdue_since(connection, UTC_ZONE) is None
    assert close_months(database) == 0
    machine.jump(days=-400)
    machine.pass_time(days=31)
    assert close_months(database) == 1, "and a finished month is closed when the clock is right again"


def test_no_refresh_token_is_deleted_in_doubt(machine: Machine, database: Database, bank: Bank) -> None:
    def refresh(token: str) -> str | None:
        with unit_of_work(database) as connection:
            found = log_ins.refresh(connection, author(bank.ada), token)
            return found and found.refresh_token

    with unit_of_work(database) as connection:
        log_in = log_ins.log_in(connection, author(bank.ada), user_id=bank.ada.id, token_version=0, days=30)
    assert log_in is not None
    machine.jump(days=31)
    with unit_of_work(database) as connection:
        assert log_ins.forget_expired(connection) == 0
    assert refresh(log_in.refresh_token) is None
    machine.jump(days=-31)
    following = refresh(log_in.refresh_token)
    assert following is not None, "the customer is still logged in when the clock is right again"
    machine.pass_time(days=31)
    with unit_of_work(database) as connection:
        assert log_ins.forget_expired(connection) == 2


def test_no_document_expires_in_doubt(
    machine: Machine, database: Database, settings: Settings, bank: Bank, tmp_path: Path
) -> None:
    with unit_of_work(database) as connection:
        add_document(connection, bank.ada, bank.ada_account, bank.ada_account)
    folder = settings.documents_path
    folder.mkdir()
    kept, stray = folder / str(bank.ada_account), folder / str(bank.bob_account)
    for file in (kept, stray):
        file.write_bytes(b"a statement")
    machine.jump(days=2)
    assert documents.forget_expired(database, settings) == 0
    assert [file.exists() for file in (kept, stray)] == [True, False], "a file without a document is deleted as ever"
    machine.jump(days=-2)
    machine.pass_time(hours=2)
    assert documents.forget_expired(database, settings) == 1
    assert not kept.exists()


def test_backups_are_made_and_none_is_deleted_in_doubt(
    machine: Machine, database: Database, settings: Settings, bank: Bank
) -> None:
    settings = settings.model_copy(update={"backup_keep": 2, "backup_hours": 24.0})

    def backed_up(move: Callable[..., None]) -> int:
        move(days=2)
        backups.back_up(database, settings)
        return len(list(settings.backups_path.glob("giro-*.db")))

    assert [backed_up(machine.pass_time) for _ in range(2)] == [1, 2]
    assert [backed_up(machine.jump) for _ in range(2)] == [3, 4]
    accept(database)
    assert backed_up(machine.pass_time) == 2


# --- the operator's word ---


def test_a_confirmation_is_recorded_with_both_times_and_the_difference(
    machine: Machine, database: Database, bank: Bank
) -> None:
    before = machine.clock.now
    machine.jump(days=40)
    shown = giro("clock", "--json")
    expected = {
        "doubt": "jumped",
        "wall_at": machine.clock.now.isoformat(),
        "expected_at": before.isoformat(),
        "difference_seconds": 40 * 86_400,
    }
    assert (shown.exit_code, json.loads(shown.stdout)) == (1, {"trusted": False} | expected)
    said = json.loads(giro("clock", "accept", "--json").stdout)
    assert said == {"accepted": True, "trusted": False} | expected
    (entry,) = rows(database, "SELECT * FROM audit_entries WHERE action LIKE 'clock%'")
    assert (entry["action"], entry["author_id"], entry["at"]) == ("clock_accepted", 1, to_us(machine.clock.now))
    assert json.loads(entry["details"]) == expected


def test_a_trusted_clock_needs_no_confirmation_and_none_is_recorded(
    machine: Machine, database: Database, bank: Bank
) -> None:
    assert giro("clock").exit_code == 0
    assert "state       trusted" in giro("clock").stdout
    said = json.loads(giro("clock", "accept", "--json").stdout)
    assert (said["accepted"], said["trusted"], said["doubt"]) == (False, True, None)
    assert "nothing was changed" in giro("clock", "accept").stdout
    assert rows(database, "SELECT id FROM audit_entries WHERE action LIKE 'clock%'") == []


def test_the_commands_say_both_times_and_what_waits(machine: Machine, database: Database, bank: Bank) -> None:
    machine.jump(days=-40)
    said = giro("clock").stdout
    for part in ("2025-12-06T12:00:00+00:00", "2026-01-15T12:00:00+00:00", "40 days, 0:00:00 behind", "accept"):
        assert part in said
    assert "in doubt: it jumped against the monotonic clock" in giro("status").stdout
    assert "the clock is accepted" in giro("clock", "accept").stdout
    assert json.loads(giro("status", "--json").stdout)["clock"]["trusted"] is True


def test_a_confirmation_that_is_not_committed_changes_nothing(machine: Machine, database: Database, bank: Bank) -> None:
    machine.jump(days=40)
    with pytest.raises(ZeroDivisionError), unit_of_work(database) as connection:
        clocks.accept(connection, the_bank())
        raise ZeroDivisionError
    assert doubt(database) is Doubt.JUMPED


# --- the real clocks ---


def test_the_uptime_moves_on_and_the_start_has_one_name() -> None:
    before = core.clock.uptime_us()
    assert 0 < before <= core.clock.uptime_us()
    assert core.clock.boot_id() == core.clock.boot_id()
    assert len(core.clock.boot_id()) == 36
