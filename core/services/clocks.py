"""The trust in the wall clock. In doubt, no month is closed and nothing expires until an operator confirms the time.

Settlement continues: its times never go back, and a transfer cannot wait for an operator.
"""

from sqlalchemy import Connection

from core import clock
from core.clock import now_us, to_datetime
from core.domain.audit import Action, Author
from core.domain.clocks import ClockState, Observation, Reading, judge
from core.services.audit import write_down
from core.storage import clocks
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work
from core.telemetry.logging import get_logger

log = get_logger(__name__)


def state(connection: Connection) -> ClockState:
    """Judge the clocks of this process, now."""
    now = Reading(now_us(), clock.uptime_us(), clock.boot_id())
    return judge(now, clocks.last(connection), clocks.ledger_at(connection))


def details_of(found: ClockState) -> dict[str, str | int]:
    """Describe a doubt: its reason, what the clock shows, what it should show, and the difference."""
    expected_at = found.now.wall_at if found.expected_at is None else found.expected_at
    return {
        "doubt": found.doubt.value if found.doubt else "",
        "wall_at": to_datetime(found.now.wall_at).isoformat(timespec="seconds"),
        "expected_at": to_datetime(expected_at).isoformat(timespec="seconds"),
        "difference_seconds": round(found.difference / 1e6),
    }


def holds(connection: Connection, what: str) -> bool:
    """Return whether work that cannot be undone has to wait because the clock is in doubt, and log that."""
    found = state(connection)
    if found.doubt is not None:
        log.warning("held_by_clock", what=what, doubt=found.doubt.value)
    return found.doubt is not None


def observe(database: Engine) -> ClockState:
    """Store what the clocks show, unless that is in doubt: the row then keeps what they showed before."""
    with unit_of_work(database) as connection:
        found = state(connection)
        if found.doubt is None:
            clocks.keep(connection, Observation(found.now, found.ledger_at))
    return found


def accept(connection: Connection, author: Author) -> ClockState:
    """Trust the wall clock from now on, and record who said so. Without a doubt, this changes nothing.

    Returns the state before.
    """
    found = state(connection)
    if found.doubt is None:
        return found
    clocks.keep(connection, Observation(found.now, found.ledger_at))
    write_down(connection, author, Action.CLOCK_ACCEPTED, None, **details_of(found))
    return found
