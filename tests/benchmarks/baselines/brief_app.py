"""The plain design: a transfer is checked, executed and committed in its own request.

Its own lock lets one request write at a time: with SQLite's busy time-out, writers would wait longer.
"""

import asyncio
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

import core  # noqa: F401  # the same SQLite as Giro's
from tests.benchmarks.baselines.http import Key, Order, user_of
from tests.benchmarks.baselines.tables import PATH, Account, Transfer, execute, refusal, set_up

app = FastAPI()
engine = create_async_engine(f"sqlite+aiosqlite:///{PATH}")
set_up(engine.sync_engine)
open_session = async_sessionmaker(engine, expire_on_commit=False)
writing = asyncio.Lock()


@app.post("/transfers", status_code=201)
async def submit(order: Order, key: Key, user: Annotated[int, Depends(user_of)]) -> dict[str, str]:
    """Execute a transfer, or return that it was executed before."""
    async with writing, open_session.begin() as session:
        same = select(Transfer).where(Transfer.submitted_by == user, Transfer.idempotency_key == key)
        if known := await session.scalar(same):
            return {"id": str(known.id), "status": known.status}
        payer = await session.get(Account, order.from_account_id)
        payee = await session.get(Account, order.to_account_id)
        if code := refusal(payer, payee, order.amount, user):
            raise HTTPException(400, code)
        assert payer is not None
        assert payee is not None
        transfer = Transfer(
            submitted_by=user,
            idempotency_key=key,
            from_account_id=payer.id,
            to_account_id=payee.id,
            amount=order.amount,
            status="pending",
        )
        session.add(transfer)
        await session.flush()
        session.add_all(execute(transfer, payer, payee))
    return {"id": str(transfer.id), "status": transfer.status}
