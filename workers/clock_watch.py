"""The scheduler's look at the clocks, once a minute."""

import time

from sqlalchemy.exc import DBAPIError

from core.domain.clocks import ClockState, Doubt
from core.domain.errors import GiroError
from core.services import clocks
from core.storage.engines import Engine
from core.telemetry.logging import get_logger

log = get_logger(__name__)

EVERY_SECONDS = 60


class ClockWatch:
    """Stores what the clocks show, and logs once when a doubt begins and when it ends.

    Other processes do not wait for this: each judges its own clock by the stored observation.
    """

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._next = 0.0
        self._doubt: Doubt | None = None

    def look(self) -> None:
        """Look if a minute has passed. If the database cannot be written, the next look tries again."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_SECONDS
        try:
            self._report(clocks.observe(self._database))
        except (GiroError, DBAPIError) as error:
            log.warning("clock_not_observed", error=str(error))

    def _report(self, found: ClockState) -> None:
        if found.doubt is not None and found.doubt is not self._doubt:
            log.error("clock_in_doubt", **clocks.details_of(found))
        elif found.doubt is None and self._doubt is not None:
            log.info("clock_trusted_again")
        self._doubt = found.doubt
