"""The guard around every actor: an exception of a job never ends its worker, and is always recorded."""

import time
from collections.abc import Callable

from core.domain.dead_letters import Letter
from core.domain.errors import CommonError, GiroError
from core.services import dead_letters
from core.storage.engines import DATABASE_ERRORS, Engine
from core.storage.unit_of_work import count_error, unit_of_work
from core.telemetry.logging import get_logger
from core.telemetry.metrics import processes as metrics

log = get_logger(__name__)

LOOK_AGAIN_SECONDS = 60
"""How long a process relies on its own knowledge of failures. Other processes on the same queue may have had more."""


class Guard:
    """Runs the work of messages. Unexpected failures are counted in the database."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._failing: set[tuple[str, str]] = set()
        self._look_again_at = 0.0

    def run[T](self, letter: Letter, work: Callable[[], T]) -> T | None:
        """Do the work of a message and return its result, or None if it failed. Never raises.

        If the database is not available, this does not count as a failure: the next message starts the work again.
        """
        try:
            result = work()
            self._note_success(letter)
        except GiroError as error:
            log.warning("job_postponed", job=letter.actor, code=error.code, detail=error.detail)
        except Exception as error:
            if self._is_away(error):
                count_error(self._database, error)
                log.warning("job_postponed", job=letter.actor, code=CommonError.UNAVAILABLE, detail=str(error))
            else:
                self._note_failure(letter, error)
        else:
            return result
        return None

    def _note_failure(self, letter: Letter, error: Exception) -> None:
        metrics.unhandled_exceptions.inc()
        log.error("job_failed", job=letter.actor, arguments=letter.text, exc_info=error)
        self._failing.add((letter.actor, letter.text))
        try:
            with unit_of_work(self._database) as connection:
                dead_letters.fail(connection, letter, error)
        except Exception:
            log.exception("failure_not_noted", job=letter.actor)

    def _note_success(self, letter: Letter) -> None:
        """Forget earlier failures, also of other processes. Reading them takes milliseconds, so it is done rarely."""
        if time.monotonic() >= self._look_again_at:
            with self._database.reading() as connection:
                self._failing = dead_letters.failing(connection)
            self._look_again_at = time.monotonic() + LOOK_AGAIN_SECONDS
        key = (letter.actor, letter.text)
        if key in self._failing:
            with unit_of_work(self._database) as connection:
                dead_letters.succeed(connection, letter)
            self._failing.discard(key)

    def _is_away(self, error: Exception) -> bool:
        """Return whether the database was locked, full … during a read, where no unit of work translates the error."""
        return isinstance(error, DATABASE_ERRORS) and self._database.is_unavailable(error)
