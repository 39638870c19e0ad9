"""Logs and metrics of the transfers that the intake has answered."""

import time
from collections import Counter
from collections.abc import Sequence
from logging import DEBUG
from typing import Any

from api.runtime.intake_jobs import Job, is_order
from core.domain.batches import AcceptedBatch
from core.domain.errors import CommonError, ErrorCode, GiroError, RateLimited, Refusal
from core.domain.transfers import AcceptedTransfer
from core.telemetry.logging import get_logger
from core.telemetry.metrics import intake as metrics
from core.telemetry.tracing import INTAKE_COMMIT, Tracer

log = get_logger(__name__)

LOGGED_REQUEST_IDS = 20


def time_and_count(job: Job, outcome: Any) -> None:
    """Count and time a transfer that has its answer."""
    if is_order(job.task):
        metrics.accept_latency.observe(time.perf_counter() - job.arrived)
        if isinstance(outcome, BaseException):
            count_refusal(outcome)


def count_refusal(error: BaseException) -> None:
    """Count a transfer that was not accepted, by the code of its answer."""
    code = error.code if isinstance(error, GiroError) else CommonError.INTERNAL_ERROR
    metrics.transfers_refused.labels(code).inc()


def report(answers: Sequence[tuple[Job, Any]]) -> bool:
    """Log and count the outcomes of a group's transfers. Returns whether one was accepted."""
    for job, outcome in answers:
        time_and_count(job, outcome)
    fresh = [outcome for _, outcome in answers if not isinstance(outcome, BaseException) and not outcome.replayed]
    transfers = [outcome for outcome in fresh if isinstance(outcome, AcceptedTransfer)]
    in_batches = [outcome for outcome in fresh if isinstance(outcome, AcceptedBatch)]
    for batch in in_batches:
        _report_batch(batch)
    if transfers:
        _report_transfers(transfers)
    return bool(transfers) or any(batch.id for batch in in_batches)


def trace(tracer: Tracer, answers: Sequence[tuple[Job, Any]], ended: float) -> None:
    """Send a span for each job of a sampled request: its wait for the commit of its group, which ended at `ended`.

    A refusal is a result, and not an error.
    """
    for job, outcome in answers:
        if job.traced is None:
            continue
        attributes: dict[str, str | int] = {"giro.group_size": len(answers)}
        if isinstance(outcome, GiroError):
            attributes["giro.code"] = outcome.code.value
        tracer.send_part(
            job.traced.trace_id,
            INTAKE_COMMIT,
            job.traced.queued.at,
            job.traced.queued.until(ended),
            attributes,
            failed=isinstance(outcome, BaseException) and not isinstance(outcome, Refusal | RateLimited),
        )


def _report_transfers(transfers: Sequence[AcceptedTransfer]) -> None:
    metrics.transfers_accepted.inc(len(transfers))
    if log.is_enabled_for(DEBUG):
        for transfer in transfers:
            log.debug("transfer_accepted", sequence=transfer.sequence, request_id=transfer.request_id)
    log.info(
        "accepted",
        count=len(transfers),
        first_sequence=transfers[0].sequence,
        last_sequence=transfers[-1].sequence,
        request_ids=[transfer.request_id for transfer in transfers[:LOGGED_REQUEST_IDS]],
    )


def _report_batch(batch: AcceptedBatch) -> None:
    metrics.transfers_accepted.inc(batch.accepted)
    for code, count in Counter(line for line in batch.lines if isinstance(line, ErrorCode)).items():
        metrics.transfers_refused.labels(code).inc(count)
    log.info(
        "batch_accepted" if batch.id else "batch_refused",
        batch_id=batch.id and str(batch.id),
        count=batch.accepted,
        refused=len(batch.lines) - batch.accepted,
        first_sequence=batch.first_sequence,
    )
