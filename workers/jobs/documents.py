"""The jobs that make large documents, on their own queue, and delete them when they have expired.

A round of messages has one document of each user, so that many documents of one user delay another user by one.
"""

import time
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from core.clock import now_us, to_datetime
from core.services.statements import documents
from core.settings import Settings
from core.storage import dead_letters
from core.storage import documents as rows
from core.storage.engines import Engine
from core.telemetry.logging import get_logger
from core.telemetry.metrics import documents as metrics
from workers.jobs.job import Job

log = get_logger(__name__)

DOCUMENTS_QUEUE = "documents"
MAKE_DOCUMENT = "make_document"
"""Its argument is the row id of a document."""
FORGET_DOCUMENTS = "forget_documents"

FORGET_SECONDS = 600


def make(database: Engine, settings: Settings, document_id: int) -> None:
    """Make a document that waits."""
    started = time.perf_counter()
    size = documents.make(database, settings, document_id)
    if not size:
        return
    seconds = time.perf_counter() - started
    metrics.document_duration.labels("job").observe(seconds)
    log.info("document_made", size_bytes=size, duration_ms=round(seconds * 1000, 3))


def forget(database: Engine, settings: Settings) -> None:
    """Delete expired documents, and files that belong to none."""
    log.info("documents_forgotten", count=documents.forget_expired(database, settings))


def _first_of_each_user(connection: Connection, _zone: ZoneInfo, most: int) -> list[tuple[int, ...]]:
    parked = dead_letters.parked_rows(connection, MAKE_DOCUMENT)  # they must not block the others of their user
    now = to_datetime(now_us())
    return [(row,) for row in rows.first_of_each_user(connection, but=parked, now=now, limit=most)]


JOBS = (
    Job(name=MAKE_DOCUMENT, work=make, queue=DOCUMENTS_QUEUE, of_row=True, due=_first_of_each_user),
    Job(name=FORGET_DOCUMENTS, work=forget, every_seconds=lambda _settings: FORGET_SECONDS),
)
