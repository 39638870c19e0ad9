"""What every engine must do, sentence by sentence. tests/wrong_engines.py has an engine that breaks each of them.

Each test takes a `site`: a database of one bank, which it can open as several processes would.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from core.clock import now_us, to_us
from core.domain.blocks import Ending
from core.domain.errors import OutcomeUnknown, Unavailable
from core.domain.lanes import Lane
from core.domain.transfers import AcceptedTransfer, TransferStatus
from core.services.transfers import accepting, cancelling, settlement
from core.services.verification import verify
from core.storage import accounts, blocks, lanes, ledger_rows, statement_runs, transactions, transfers
from core.storage.engines import SCHEMA_REVISION, Engine
from core.storage.transfers import EndedElsewhere
from core.storage.unit_of_work import unit_of_work
from tests import builders, months
from tests.builders import Bank
from tests.engines import Site
from tests.waiting import eventually

BOTH = (Lane.ACCEPT, Lane.SETTLE)
FUNDS = 10**6
PATIENCE = 30.0
"""Seconds after which something that waits is taken to wait for ever."""


def bank_on(site: Site) -> Bank:
    return builders.bank_of_two(site.engine, ada_has=FUNDS)


def sent(engine: Engine, bank: Bank, count: int = 1, **overrides: object) -> list[AcceptedTransfer]:
    return [builders.accepted(engine, builders.from_ada_to_bob(bank, 1, **overrides)) for _ in range(count)]


def together(*acts: Callable[[], object]) -> None:
    """Let every act begin at the same moment, each in one thread; raise the first error of any."""
    ready, failed = threading.Barrier(len(acts)), list[BaseException]()

    def run(act: Callable[[], object]) -> None:
        ready.wait(PATIENCE)
        try:
            act()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(act,), daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "nobody waits for ever"
    if failed:
        raise failed[0]


def stands(engine: Engine) -> lanes.Lanes:
    with engine.reading() as connection:
        return lanes.read(connection)


def stored(connection: Connection) -> list[int]:
    """The sequences of all transfers, in their order."""
    found = ledger_rows.transfers(connection, after=0, through=10**9, limit=10**6)
    return [row.terms.sequence for row in found]


def sequences(engine: Engine) -> list[int]:
    with engine.reading() as connection:
        return stored(connection)


def leg_ids(connection: Connection) -> list[int]:
    return [leg[0] for leg in ledger_rows.legs(connection, after=0, through=10**9, limit=10**6)]


class Undone(Exception):
    """What ends a unit of work in these tests."""


# --- a unit of work is whole -------------------------------------------------------------------------------------


def test_what_a_unit_of_work_wrote_is_seen_by_all_once_it_has_ended(site: Site) -> None:
    bank, other = bank_on(site), site.open()
    with unit_of_work(site.engine, Lane.ACCEPT) as connection:
        accepting.accept(connection, [builders.from_ada_to_bob(bank, 1)], builders.BOUNDS)
        assert sequences(other) == [1], "nothing of it is seen before"
    assert sequences(other) == [1, 2]


def test_of_a_unit_of_work_that_fails_nothing_is_left(site: Site) -> None:
    bank = bank_on(site)
    with pytest.raises(Undone), unit_of_work(site.engine, Lane.ACCEPT) as connection:
        accepting.accept(connection, [builders.from_ada_to_bob(bank, 7)], builders.BOUNDS)
        raise Undone
    with site.open().reading() as connection:
        assert stored(connection) == [1]
    assert builders.reserved_of(site.engine, bank.ada_account) == 0


def test_a_part_of_a_unit_of_work_can_fail_alone(site: Site) -> None:
    bank = bank_on(site)
    with unit_of_work(site.engine, *BOTH) as connection:
        accepting.accept(connection, [builders.from_ada_to_bob(bank, 7)], builders.BOUNDS)
        with pytest.raises(EndedElsewhere), connection.begin_nested():
            terms = transfers.terms_of(connection, 1)
            transfers.end(connection, [Ending(terms, TransferStatus.CANCELLED.value, now_us(), None)])
    with site.open().reading() as connection:
        assert stored(connection) == [1, 2]


def test_a_commit_that_fails_leaves_nothing(site: Site) -> None:
    bank = bank_on(site)
    with pytest.raises(Unavailable), unit_of_work(site.engine, Lane.ACCEPT) as connection:
        accepting.accept(connection, [builders.from_ada_to_bob(bank, 7)], builders.BOUNDS)
        site.refuse_commits(connection, times=1)
    assert stands(site.open()).next_transfer == 2
    assert sent(site.engine, bank)[0].sequence == 2, "the engine still works"


def test_a_commit_that_fails_and_cannot_be_undone_has_an_unknown_outcome(site: Site) -> None:
    bank = bank_on(site)
    with pytest.raises(OutcomeUnknown), unit_of_work(site.engine, Lane.ACCEPT) as connection:
        accepting.accept(connection, [builders.from_ada_to_bob(bank, 7)], builders.BOUNDS)
        site.refuse_commits(connection, times=float("inf"))


def test_under_another_schema_nothing_is_written(site: Site) -> None:
    told: list[int] = []
    site.engine.moved_on = lambda: told.append(1)
    builders.move_on(site.engine)
    with pytest.raises(Unavailable), unit_of_work(site.engine):
        pytest.fail("it must not begin")
    assert told == [1]
    builders.move_on(site.engine, SCHEMA_REVISION)
    with unit_of_work(site.engine):
        pass


# --- lanes -------------------------------------------------------------------------------------------------------


def test_in_one_lane_units_of_work_take_turns(site: Site) -> None:
    bank = bank_on(site)
    engines = [site.engine, site.open(), site.open()]
    together(*(lambda engine=engine: sent(engine, bank, 15) for engine in engines))  # type: ignore[misc]
    with site.engine.reading() as connection:
        assert stored(connection) == list(range(1, 47))
    assert verify(site.engine).holds


def test_a_unit_of_work_sees_what_was_committed_while_it_waited_for_its_lane(site: Site) -> None:
    bank, other = bank_on(site), site.open()
    seen: list[int] = []

    def look() -> None:
        with unit_of_work(other, Lane.ACCEPT) as connection:
            seen.append(lanes.read(connection).next_transfer)

    with unit_of_work(site.engine, Lane.ACCEPT) as connection:
        waiting = threading.Thread(target=look, daemon=True)
        waiting.start()
        time.sleep(0.1)  # it waits by now; if it does not, the test only shows less
        accepting.accept(connection, [builders.from_ada_to_bob(bank, 1)], builders.BOUNDS)
    waiting.join(PATIENCE)
    assert seen == [3]


def test_units_of_work_in_different_lanes_never_wait_for_each_other_for_ever(site: Site) -> None:
    bank = bank_on(site)
    acts = [(Lane.ACCEPT,), (Lane.SETTLE,), BOTH, ()]

    def work(engine: Engine, taken: tuple[Lane, ...]) -> None:
        for _ in range(10):
            with unit_of_work(engine, *taken) as connection:
                accounts.find_by_number(connection, "0")

    together(*(lambda taken=taken: work(site.open(), taken) for taken in acts))  # type: ignore[misc]
    assert sent(site.engine, bank)


def test_transfers_are_accepted_while_others_are_settled_and_all_adds_up(site: Site) -> None:
    bank, settler = bank_on(site), site.open()
    done = threading.Event()

    def settle() -> None:
        while not done.is_set() or builders.settle_all(settler, batch=3):
            pass

    def submit() -> None:
        try:
            sent(site.engine, bank, 20)
        finally:
            done.set()

    together(settle, submit)
    assert builders.balance_of(site.engine, bank.bob_account) == 20
    assert verify(site.engine).holds


def test_an_engine_tells_that_somebody_waits_for_a_lane(site: Site) -> None:
    other = site.open()

    def work() -> None:
        with unit_of_work(other, *BOTH):
            pass

    waiting = threading.Thread(target=work, daemon=True)
    try:
        with unit_of_work(site.engine, *BOTH):
            assert not site.engine.others_wait()
            waiting.start()
            eventually(site.engine.others_wait, seconds=PATIENCE)
    finally:
        waiting.join(PATIENCE)
    assert not waiting.is_alive()


# --- numbers and times -------------------------------------------------------------------------------------------


def test_a_unit_of_work_that_fails_gives_its_numbers_back(site: Site) -> None:
    bank = bank_on(site)
    for lane in BOTH:
        with pytest.raises(Undone), unit_of_work(site.engine, lane) as connection:
            if lane is Lane.ACCEPT:
                accepting.accept(connection, [builders.from_ada_to_bob(bank, 1)] * 3, builders.BOUNDS)
            else:
                lanes.settled(connection, lanes.read(connection), next_leg=99, posted_at=0, through=1)
            raise Undone
    assert [transfer.sequence for transfer in sent(site.engine, bank, 2)] == [2, 3]
    builders.settle_all(site.engine)
    with site.engine.reading() as connection:
        assert leg_ids(connection) == [1, 2, 3, 4, 5, 6]


def test_every_snapshot_has_all_numbers_up_to_its_newest(site: Site) -> None:
    bank, other = bank_on(site), site.open()
    done = threading.Event()

    def write() -> None:
        try:
            for _ in range(10):
                sent(site.engine, bank, 2)
                builders.settle_all(site.engine)
        finally:
            done.set()

    def look() -> None:
        while not done.is_set():
            with other.reading() as connection:
                found, legs = stored(connection), leg_ids(connection)
                stand = lanes.read(connection)
            assert found == list(range(1, stand.next_transfer))
            assert legs == list(range(1, stand.next_leg))

    together(write, look)


def test_times_never_go_back_although_the_clock_does(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = bank_on(site)
    start = now_us()
    for step in (3, 1, 2):
        for service in (accepting, settlement, cancelling):
            monkeypatch.setattr(service, "now_us", lambda step=step: start + step * 3_600_000_000)
        sent(site.engine, bank)
        builders.settle_all(site.engine)
    with site.engine.reading() as connection:
        rows = ledger_rows.transfers(connection, after=0, through=10**9, limit=10)
        posted = [leg[5] for leg in ledger_rows.legs(connection, after=0, through=10**9, limit=10)]
    assert [row.terms.created_at for row in rows] == sorted(row.terms.created_at for row in rows)
    assert posted == sorted(posted)


def test_the_watermark_follows_the_oldest_pending_transfer(site: Site) -> None:
    bank = bank_on(site)
    first, second, third = sent(site.engine, bank, 3)
    with unit_of_work(site.engine, Lane.SETTLE) as connection:
        cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=second.id)
    assert stands(site.engine).watermark == first.sequence - 1
    with unit_of_work(site.engine, Lane.SETTLE) as connection:
        cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=first.id)
    assert stands(site.engine).watermark == second.sequence
    builders.settle_all(site.engine)
    assert stands(site.engine).watermark == third.sequence


# --- keys, endings and chains ------------------------------------------------------------------------------------


def test_a_key_is_accepted_once_by_however_many_processes(site: Site) -> None:
    bank = bank_on(site)
    engines, found = [site.engine, site.open(), site.open()], list[AcceptedTransfer]()
    key = {"idempotency_key": "rent", "fingerprint": b"rent"}
    together(*(lambda engine=engine: found.extend(sent(engine, bank, 3, **key)) for engine in engines))  # type: ignore[misc]
    assert len({transfer.id for transfer in found}) == 1
    assert sum(not transfer.replayed for transfer in found) == 1


def test_a_transfer_ends_once(site: Site) -> None:
    bank = bank_on(site)
    (transfer,) = sent(site.engine, bank)
    builders.settle_all(site.engine)
    with pytest.raises(EndedElsewhere), unit_of_work(site.engine, Lane.SETTLE) as connection:
        terms = transfers.terms_of(connection, transfer.sequence)
        transfers.end(connection, [Ending(terms, TransferStatus.CANCELLED.value, now_us(), None)])
    assert builders.status_of(site.engine, transfer) is TransferStatus.COMPLETED


@pytest.mark.parametrize("table", ["transfers", "endings", "transactions", "blocks"])
def test_what_the_ledger_says_never_changes(site: Site, table: str) -> None:
    bank_on(site)
    key = "height" if table == "blocks" else "id"
    for change in (f"UPDATE {table} SET {key} = {key}", f"DELETE FROM {table}"):
        with pytest.raises(DBAPIError, match="never"):
            site.change(change)


def test_the_chain_of_an_account_has_all_its_legs_newest_first(site: Site) -> None:
    bank = bank_on(site)
    for _ in range(3):
        sent(site.engine, bank, 2)
        builders.settle_all(site.engine)
    account = builders.account_row(site.engine, bank.bob_account)
    with site.engine.reading() as connection:
        found = transactions.walk(connection, account["id"], account["last_transaction_id"], offset=0, limit=100)
    assert [leg.balance_after for leg in found] == [6, 5, 4, 3, 2, 1]


def test_sums_beyond_64_bits_are_exact(site: Site) -> None:
    bank = bank_on(site)
    site.change("UPDATE reservations SET reserved_high = 9000000000000000, reserved_low = 999999999")
    site.change("UPDATE accounts SET released_high = 9000000000000000, released_low = 999999999")
    sent(site.engine, bank)
    assert builders.reserved_of(site.engine, bank.ada_account) == 1
    builders.settle_all(site.engine)
    row = builders.account_row(site.engine, bank.ada_account)
    assert (row["released_high"], row["released_low"], row["reserved"]) == (9000000000000001, 0, 0)


# --- months ------------------------------------------------------------------------------------------------------


def test_no_leg_is_posted_in_a_month_that_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, other = bank_on(site), site.open()
    ends = to_us(datetime(2099, 2, 1, tzinfo=UTC))
    sent(site.engine, bank, 20)

    def close() -> None:
        monkeypatch.setattr("core.services.statements.making.now_us", lambda: ends)
        months.close_months(other)

    together(close, lambda: builders.settle_all(site.engine, batch=2))
    sent(site.engine, bank)
    builders.settle_all(site.engine)
    months.work_off(other)
    with site.engine.reading() as connection:
        closed = statement_runs.closed_until(connection)
        last = ledger_rows.legs(connection, after=0, through=10**9, limit=10**6)[-1]
    assert last[5] >= closed > now_us()
    report = verify(site.engine)
    assert report.holds, report.breaches


# --- reading -----------------------------------------------------------------------------------------------------


def test_a_snapshot_stays_as_it_is_while_others_write(site: Site) -> None:
    bank = bank_on(site)
    with site.open().reading() as connection:
        before = stored(connection)
        sent(site.engine, bank, 3)
        assert stored(connection) == before
        connection.rollback()
        assert len(stored(connection)) == len(before) + 3, "the next snapshot is a new one"


def test_what_only_reads_cannot_write(site: Site) -> None:
    bank_on(site)
    with pytest.raises(DBAPIError), site.engine.reading() as connection:
        lanes.accepted(connection, next_transfer=99, accepted_at=0)
        connection.commit()
    assert stands(site.open()).next_transfer == 2


def test_a_verification_reads_in_snapshots_that_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = bank_on(site)
    sent(site.engine, bank, 10)
    builders.settle_all(site.engine)
    monkeypatch.setattr("core.services.verification.scan.ROWS", 4)
    monkeypatch.setattr("core.services.verification.scan.PROGRESS_EVERY", 5)
    held = []

    def progress(done: int, of: int) -> None:
        if 0 < done < of:
            sent(site.engine, bank)
            held.append(site.engine.checkpoint().blocked)

    assert verify(site.open(), progress=progress).holds
    assert held, "it told how far it was"
    assert not any(held), "no snapshot keeps the log"


def test_a_whole_ledger_verifies_and_a_broken_one_does_not(site: Site) -> None:
    bank = bank_on(site)
    sent(site.engine, bank, 3)
    builders.settle_all(site.engine)
    assert verify(site.engine).breaches == []
    site.remove_triggers()
    site.change("UPDATE transfers SET amount = 2 WHERE id = 3")
    rules = {breach.rule for breach in verify(site.engine).breaches}
    assert {"block_recomputes", "schema_is_whole"} <= rules


def test_an_engine_has_no_complaints_about_itself(site: Site) -> None:
    bank_on(site)
    with site.engine.reading() as connection:
        assert list(site.engine.complaints(connection)) == []
        assert site.engine.schema_differences(connection) == []
        assert blocks.head(connection).height > 0


# --- glances -----------------------------------------------------------------------------------------------------


async def test_a_glance_tells_which_user_a_token_names(site: Site) -> None:
    bank = bank_on(site)
    glance = site.engine.glance()
    found = await glance.identity(bank.ada.public_id)
    assert found is not None
    assert found.id == bank.ada.id
    assert await glance.identity(uuid4()) is None
    builders.deactivate(site.engine, bank.ada)
    assert await glance.identity(bank.ada.public_id) is None, "it sees the latest commit"
    await glance.close()


async def test_a_glance_tells_which_transfers_have_ended(site: Site) -> None:
    bank = bank_on(site)
    glance, other = site.engine.glance(), site.open()
    done, cancelled, pending = sent(site.engine, bank, 3)
    wanted = [transfer.id for transfer in (done, cancelled, pending)]
    assert await glance.ended(wanted) == []
    version = await glance.data_version()
    with unit_of_work(other, Lane.SETTLE) as connection:
        cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=cancelled.id)
    assert await glance.data_version() != version
    assert await glance.ended(wanted) == [cancelled.id]
    builders.settle_all(other)
    assert set(await glance.ended(wanted)) == set(wanted)
    await glance.close()


async def test_a_glance_tells_what_is_pending(site: Site) -> None:
    bank = bank_on(site)
    glance, other = site.engine.glance(), site.open()
    assert await glance.oldest_pending() is None
    first, *_ = sent(other, bank, 2)
    assert await glance.oldest_pending() == first.sequence
    builders.settle_all(other)
    assert await glance.oldest_pending() is None
    await glance.close()


# --- one settler -------------------------------------------------------------------------------------------------


def test_there_is_one_settler(site: Site) -> None:
    ours, theirs = site.engine.settler(), site.open().settler()
    assert ours.take("ours")
    assert not theirs.take("theirs")
    assert "ours" in theirs.holder()
    ours.close()
    assert theirs.take("theirs")
    theirs.close()
