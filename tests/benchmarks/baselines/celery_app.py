"""The usual design with a queue: the request records the transfer and sends a task, which executes it.

Each transfer is one task, acknowledged when it is done. The worker has one process: a second one would only wait for
SQLite's single writer.
"""

import asyncio
import os
from functools import cache
from typing import Annotated
from uuid import UUID

from celery import Celery
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

import core  # noqa: F401  # the same SQLite as Giro's
from tests.benchmarks.baselines.http import Key, Order, user_of
from tests.benchmarks.baselines.tables import PATH, Account, Transfer, execute, refusal, set_up

queue = Celery("baseline", broker=os.environ.get("BENCH_BROKER", ""))
queue.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=100,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)

app = FastAPI()
engine = create_async_engine(f"sqlite+aiosqlite:///{PATH}")
set_up(engine.sync_engine)
open_session = async_sessionmaker(engine, expire_on_commit=False)
writing = asyncio.Lock()


@app.post("/transfers", status_code=202)
async def submit(order: Order, key: Key, user: Annotated[int, Depends(user_of)]) -> dict[str, str]:
    """Record a transfer and send its task, after the commit."""
    async with writing, open_session.begin() as session:
        same = select(Transfer).where(Transfer.submitted_by == user, Transfer.idempotency_key == key)
        if known := await session.scalar(same):
            return {"id": str(known.id), "status": known.status}
        payer = await session.get(Account, order.from_account_id)
        payee = await session.get(Account, order.to_account_id)
        if code := refusal(payer, payee, order.amount, user):
            raise HTTPException(400, code)
        transfer = Transfer(
            submitted_by=user,
            idempotency_key=key,
            from_account_id=order.from_account_id,
            to_account_id=order.to_account_id,
            amount=order.amount,
            status="pending",
        )
        session.add(transfer)
    settle.delay(str(transfer.id))
    return {"id": str(transfer.id), "status": transfer.status}


@cache
def own_engine() -> Engine:
    """Return the engine of a worker process, opened after the fork."""
    return set_up(create_engine(f"sqlite:///{PATH}"))


@queue.task
def settle(transfer_id: str) -> None:
    """Execute a transfer, unless that is already done: a task may arrive twice."""
    with Session(own_engine()) as session, session.begin():
        transfer = session.get_one(Transfer, UUID(transfer_id))
        if transfer.status != "pending":
            return
        payer = session.get_one(Account, transfer.from_account_id)
        payee = session.get_one(Account, transfer.to_account_id)
        if refusal(payer, payee, transfer.amount, transfer.submitted_by):
            transfer.status = "failed"
        else:
            session.add_all(execute(transfer, payer, payee))
