"""The gauges on the scheduler's port: read at each scrape, and omitted if they cannot be read."""

import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import structlog
from dramatiq.brokers.redis import RedisBroker
from fakeredis import FakeServer
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from core.domain.dead_letters import MOST_ATTEMPTS, Letter
from core.domain.statements import Period
from core.queue.messages import JOBS_QUEUE, SETTLEMENT_QUEUE, message
from core.queue.wakeups import send_wakeup
from core.services import dead_letters
from core.services.backups import making as backups_making
from core.services.backups.shipments import current_path
from core.services.statements import making as statements_making
from core.services.statements import reading
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import checkpoint
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, accepted, from_ada_to_bob, fund, open_account, settle_all
from tests.months import BANK, close_months, make_requested, undone_groups, work_off
from tests.time_travel import Clock
from workers.jobs import upkeep
from workers.jobs.backups import back_up
from workers.jobs.documents import DOCUMENTS_QUEUE
from workers.jobs.statements import MAKE_GROUP, STATEMENTS_QUEUE
from workers.metrics import gauges
from workers.metrics.gauges import HELP, IMBALANCE_SECONDS, Gauges

pytestmark = [pytest.mark.funded(ada_has=500), pytest.mark.usefixtures("clock")]

UTC = ZoneInfo("UTC")
DAY = 86_400

OF_QUEUE = {"giro_queue_messages"}
OF_DISK = {"giro_disk_free_bytes", "giro_disk_size_bytes", "giro_database_size_bytes", "giro_wal_size_bytes"}
OF_VERIFICATION = {name for name in HELP if name.startswith("giro_verification_")}
ALWAYS = {"giro_queue_up", "giro_backup_interval_seconds"}
OF_BACKUPS = {name for name in HELP if name.startswith("giro_backup_")} - {"giro_backup_interval_seconds"}

Scrape = Callable[[], dict[str, Any]]


@pytest.fixture
def registry(settings: Settings, database: Database, broker: RedisBroker) -> CollectorRegistry:
    """The gauges of the scheduler's port with their sources."""
    registry = CollectorRegistry()
    registry.register(Gauges(database, broker, settings))
    return registry


@pytest.fixture
def scrape(registry: CollectorRegistry) -> Scrape:
    """Scrape the port, and return each gauge's value, or its values by label."""

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for family in text_string_to_metric_families(generate_latest(registry).decode()):
            assert family.type == "gauge"
            values = {
                sample.labels.get("queue") or sample.labels.get("currency"): sample.value for sample in family.samples
            }
            found[family.name] = values.get(None, values)
        return found

    return shown


def park(database: Database, letter: Letter) -> None:
    with unit_of_work(database) as connection:
        for _ in range(MOST_ATTEMPTS):
            dead_letters.fail(connection, letter, ValueError("an unexpected error"))


def put_balance(database: Database, currency: str, by: int) -> None:
    with unit_of_work(database) as connection:
        connection.exec_driver_sql(
            "UPDATE accounts SET balance = balance + ? WHERE currency = ? AND kind = 'external'", (by, currency)
        )


# --- values ------------------------------------------------------------------------------------------------------


def test_exactly_the_announced_gauges_are_shown(
    settings: Settings, database: Database, bank: Bank, scrape: Scrape, registry: CollectorRegistry
) -> None:
    upkeep.verify(database, settings)
    back_up(database, settings)
    current_path(settings.backups_path).parent.mkdir()
    current_path(settings.backups_path).touch()
    assert scrape().keys() == HELP.keys()
    announced = {family.name for family in Gauges.describe(SimpleNamespace())}  # type: ignore[arg-type]
    assert announced == HELP.keys()


def test_empty_database_shows_no_problems(scrape: Scrape) -> None:
    shown = scrape()
    assert shown["giro_imbalance_minor_units"] == {}
    assert shown["giro_queue_up"] == 1
    assert not (OF_VERIFICATION | OF_BACKUPS) & shown.keys(), "they must be absent before the first one"
    assert shown["giro_anchored_height"] == -1
    of_another_kind = {"giro_imbalance_minor_units", "giro_queue_up", "giro_queue_messages", "giro_anchored_height"}
    calm = shown.keys() - OF_DISK - of_another_kind - {"giro_backup_interval_seconds"}
    assert {name: shown[name] for name in calm} == dict.fromkeys(calm, 0)


def test_pending_transfers_and_their_age_are_shown(
    database: Database, bank: Bank, clock: Clock, scrape: Scrape
) -> None:
    for _ in range(2):
        accepted(database, from_ada_to_bob(bank))
        clock.advance(seconds=5)
    shown = scrape()
    assert (shown["giro_pending_transfers"], shown["giro_oldest_pending_age_seconds"]) == (2, 10)
    settle_all(database)
    shown = scrape()
    assert (shown["giro_pending_transfers"], shown["giro_oldest_pending_age_seconds"]) == (0, 0)


def test_unanchored_age_counts_from_the_oldest_block_without_an_anchor(
    database: Database, bank: Bank, clock: Clock, settings: Settings, scrape: Scrape
) -> None:
    upkeep.anchor(database, settings)
    shown = scrape()
    assert shown["giro_block_height"] == shown["giro_anchored_height"]
    assert shown["giro_unanchored_seconds"] == 0
    for _ in range(2):
        accepted(database, from_ada_to_bob(bank))
        settle_all(database)
        clock.advance(seconds=30)
    later = scrape()
    assert later["giro_block_height"] == later["giro_anchored_height"] + 2
    assert later["giro_unanchored_seconds"] == 60


def test_ages_are_never_negative(database: Database, bank: Bank, clock: Clock, scrape: Scrape) -> None:
    accepted(database, from_ada_to_bob(bank))
    clock.advance(hours=-1)
    assert scrape()["giro_oldest_pending_age_seconds"] == 0


def test_ledger_in_the_future_is_shown_until_the_clock_catches_up(bank: Bank, clock: Clock, scrape: Scrape) -> None:
    assert scrape()["giro_ledger_ahead_seconds"] == 0
    clock.advance(hours=-1)
    assert scrape()["giro_ledger_ahead_seconds"] == 3600
    clock.advance(hours=2)
    assert scrape()["giro_ledger_ahead_seconds"] == 0


def test_messages_are_counted_by_queue(broker: RedisBroker, scrape: Scrape) -> None:
    send_wakeup(broker)
    for _ in range(3):
        broker.enqueue(message("verify", JOBS_QUEUE))
    assert scrape()["giro_queue_messages"] == {
        SETTLEMENT_QUEUE: 1,
        JOBS_QUEUE: 3,
        STATEMENTS_QUEUE: 0,
        DOCUMENTS_QUEUE: 0,
    }


def test_parked_messages_are_counted(database: Database, scrape: Scrape) -> None:
    park(database, Letter(STATEMENTS_QUEUE, MAKE_GROUP, (1,)))
    assert scrape()["giro_dead_letters"] == 1


def test_sizes_of_files_and_disk_are_shown(database: Database, bank: Bank, scrape: Scrape) -> None:
    shown, log = scrape(), database.path.with_name(f"{database.path.name}-wal")
    assert shown["giro_wal_size_bytes"] == log.stat().st_size > 0
    assert shown["giro_database_size_bytes"] == database.path.stat().st_size > 0
    assert shown["giro_disk_size_bytes"] == shutil.disk_usage(database.path).total
    assert 0 < shown["giro_disk_free_bytes"] < shown["giro_disk_size_bytes"]
    checkpoint(database)
    assert scrape()["giro_wal_size_bytes"] == 0


def test_result_of_the_last_verification_is_shown(
    database: Database, settings: Settings, bank: Bank, clock: Clock, scrape: Scrape
) -> None:
    upkeep.verify(database, settings)
    assert scrape()["giro_verification_breaches"] == 0
    put_balance(database, "USD", by=1)
    later = clock.advance(hours=24)
    upkeep.verify(database, settings)
    clock.advance(hours=3)
    shown = scrape()
    assert shown["giro_verification_breaches"] == 2
    assert shown["giro_verification_timestamp_seconds"] == later.timestamp()
    assert shown["giro_verification_duration_seconds"] == 0, "this clock does not move"


def test_duration_of_a_verification_comes_from_its_row(database: Database, scrape: Scrape) -> None:
    with unit_of_work(database) as connection:
        connection.exec_driver_sql(
            "INSERT INTO verifications "
            "(scope, started_at, finished_at, accounts, transfers, transactions, breaches, details) "
            "VALUES ('full', 1000000, 3500000, 0, 0, 0, 7, '[]')"
        )
    shown = scrape()
    assert [shown[name] for name in sorted(OF_VERIFICATION)] == [7, 2.5, 3.5]


# --- statements --------------------------------------------------------------------------------------------------


def ask(database: Database, bank: Bank) -> None:
    """Request Ada's statement of January."""
    with unit_of_work(database) as connection:
        reading.ask_for(
            connection, user_id=bank.ada.id, account_id=bank.ada_account, period=Period(2026, 1), zone=UTC, group=1
        )


def test_groups_count_until_their_run_is_finished(database: Database, bank: Bank, clock: Clock, scrape: Scrape) -> None:
    clock.set(2026, 2, 1)
    close_months(database, group=1)
    seen = []
    for group in undone_groups(database):
        shown = scrape()
        seen.append((shown["giro_statement_groups"], shown["giro_statement_groups_undone"]))
        statements_making.make_group(database, BANK, group)
    assert seen == [(3, 3), (3, 2), (3, 1)]
    shown = scrape()
    assert (shown["giro_statement_groups"], shown["giro_statement_groups_undone"]) == (0, 0)


def test_requested_statements_count_until_they_are_made(
    database: Database, bank: Bank, clock: Clock, scrape: Scrape
) -> None:
    clock.set(2026, 2, 10)
    ask(database, bank)
    assert scrape()["giro_statements_requested"] == 1
    make_requested(database)
    assert scrape()["giro_statements_requested"] == 0


@pytest.mark.parametrize(
    ("zone", "closed", "made", "now", "overdue"),
    [
        pytest.param("UTC", None, False, (2026, 1, 31, 23, 59, 59), 0, id="the month has not ended"),
        pytest.param("UTC", None, False, (2026, 2, 1), 0, id="it ends now"),
        pytest.param("UTC", None, False, (2026, 2, 2), DAY, id="not even closed"),
        pytest.param("UTC", (2026, 2, 1), False, (2026, 2, 3), 2 * DAY, id="closed and not made"),
        pytest.param("UTC", (2026, 2, 1), True, (2026, 2, 28), 0, id="made"),
        pytest.param("UTC", (2026, 2, 1), True, (2026, 3, 2), DAY, id="the next one is missing"),
        pytest.param("UTC", (2026, 2, 1), False, (2026, 3, 2), 29 * DAY, id="the oldest counts, closed or not"),
        pytest.param("Europe/Berlin", None, False, (2026, 2, 1), 3600, id="a month of the bank's zone"),
    ],
)
def test_statements_are_overdue_from_the_end_of_the_oldest_unfinished_month(
    settings: Settings,
    database: Database,
    broker: RedisBroker,
    bank: Bank,
    clock: Clock,
    zone: str,
    closed: tuple[int, ...] | None,
    made: bool,
    now: tuple[int, ...],
    overdue: int,
) -> None:
    if closed:
        clock.set(*closed)
        close_months(database)
        if made:
            work_off(database)
    clock.set(*now)
    (family,) = (
        family
        for family in Gauges(database, broker, settings.model_copy(update={"time_zone": zone})).collect()
        if family.name == "giro_statements_overdue_seconds"
    )
    assert [sample.value for sample in family.samples] == [overdue]


# --- backups -----------------------------------------------------------------------------------------------------


def test_newest_backup_is_shown_from_its_manifest(
    settings: Settings, database: Database, scrape: Scrape, clock: Clock
) -> None:
    assert not scrape().keys() & OF_BACKUPS
    for _ in range(2):
        moment = clock.advance(hours=1)
        path, manifest = backups_making.make(settings, database, settings.backups_path, lambda step, done, of: None)
    shown = scrape()
    assert shown["giro_backup_timestamp_seconds"] == moment.timestamp()
    assert shown["giro_backup_size_bytes"] == path.stat().st_size
    assert shown["giro_backup_duration_seconds"] == manifest.duration_seconds
    assert shown["giro_backup_interval_seconds"] == DAY
    assert "giro_backup_shipped_timestamp_seconds" not in shown


def test_time_of_the_newest_shipment_is_shown(settings: Settings, scrape: Scrape) -> None:
    current = current_path(settings.backups_path)
    current.parent.mkdir(parents=True)
    current.touch()
    assert scrape()["giro_backup_shipped_timestamp_seconds"] == current.stat().st_mtime


# --- balances ----------------------------------------------------------------------------------------------------


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the cache of sums."""
    ticking = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(gauges, "time", SimpleNamespace(monotonic=lambda: ticking.now))
    return ticking


def test_imbalance_is_shown_by_currency(
    database: Database, bank: Bank, scrape: Scrape, monotonic: SimpleNamespace
) -> None:
    with unit_of_work(database) as connection:
        euros = open_account(connection, bank.ada, "EUR")
    fund(database, euros, 700)
    assert scrape()["giro_imbalance_minor_units"] == {"USD": 0, "EUR": 0}
    put_balance(database, "EUR", by=-1)
    monotonic.now += IMBALANCE_SECONDS
    assert scrape()["giro_imbalance_minor_units"] == {"USD": 0, "EUR": -1}


def test_sum_may_exceed_the_databases_integers(database: Database, bank: Bank, scrape: Scrape) -> None:
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        connection.exec_driver_sql("UPDATE accounts SET balance = 8000000000000000000 WHERE kind = 'customer'")
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")
    assert scrape()["giro_imbalance_minor_units"] == {"USD": pytest.approx(1.6e19)}


def test_balances_are_summed_at_most_once_a_minute(
    database: Database, bank: Bank, scrape: Scrape, monotonic: SimpleNamespace
) -> None:
    scrape()
    put_balance(database, "USD", by=1)
    monotonic.now += IMBALANCE_SECONDS - 1
    assert scrape()["giro_imbalance_minor_units"] == {"USD": 0}, "the sum must still be cached"
    monotonic.now += 1
    assert scrape()["giro_imbalance_minor_units"] == {"USD": 1}


# --- scrapes -----------------------------------------------------------------------------------------------------


def test_registering_reads_nothing(settings: Settings, broker: RedisBroker) -> None:
    nowhere = Database(settings.model_copy(update={"data_dir": settings.data_dir / "nowhere"}))
    CollectorRegistry().register(Gauges(nowhere, broker, settings))
    assert "reader" not in nowhere.__dict__, "the database must not be opened"


def test_scrape_uses_one_transaction_on_one_connection_and_closes_it(
    database: Database, bank: Bank, scrape: Scrape
) -> None:
    seen: list[str] = []
    for name in ("connect", "begin", "close"):
        event.listen(database.reader, name, lambda *_, name=name: seen.append(name))
    scrape()
    assert seen == ["connect", "begin", "close"]


def test_concurrent_scrapes_each_get_the_whole_answer(database: Database, bank: Bank, scrape: Scrape) -> None:
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(scrape())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.keys() for answer in answers] == [HELP.keys() - OF_VERIFICATION - OF_BACKUPS] * 8


def test_no_two_scrapes_read_at_the_same_time(database: Database, scrape: Scrape) -> None:
    meeting, met = threading.Barrier(2), []

    def look_around(*_: Any) -> None:
        with suppress(threading.BrokenBarrierError):
            meeting.wait(0.3)
            met.append("another that reads")

    event.listen(database.reader, "begin", look_around)
    threads = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meeting.broken
    assert met == []


def warnings(logged: list[Any]) -> list[str]:
    return [line["source"] for line in logged if line["event"] == "metrics_source_away"]


def test_unreachable_queue_is_shown_as_down_and_logged_once(server: FakeServer, bank: Bank, scrape: Scrape) -> None:
    with structlog.testing.capture_logs() as logged:
        server.connected = False
        for _ in range(3):
            shown = scrape()
            assert shown["giro_queue_up"] == 0
            assert shown.keys() == HELP.keys() - OF_QUEUE - OF_VERIFICATION - OF_BACKUPS
        server.connected = True
        shown = scrape()
        assert (shown["giro_queue_up"], shown["giro_queue_messages"]["jobs"]) == (1, 0)
        assert warnings(logged) == ["queue"]
        server.connected = False
        scrape()
        assert warnings(logged) == ["queue", "queue"], "the queue was reachable in between"


def test_unreachable_database_is_omitted_and_logged_once(database: Database, bank: Bank, scrape: Scrape) -> None:
    away = database.path.with_name("away.db")
    with structlog.testing.capture_logs() as logged:
        database.path.rename(away)
        for _ in range(2):
            assert scrape().keys() == OF_QUEUE | ALWAYS
        away.rename(database.path)
        assert scrape().keys() == HELP.keys() - OF_VERIFICATION - OF_BACKUPS
    assert sorted(warnings(logged)) == ["database", "disk"]


def test_invalid_database_is_omitted(database: Database, scrape: Scrape) -> None:
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("DROP TABLE verifications")
    assert scrape().keys() == OF_QUEUE | OF_DISK | ALWAYS
