"""The lean design on PostgreSQL: no ORM, a pool of asyncpg, and one function call for each transfer."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import uuid4

import asyncpg
from fastapi import Depends, FastAPI, HTTPException

from tests.benchmarks.baselines.http import Key, Order, user_of

POOL = 16
"""Number of connections: enough that commits share disk waits, few enough for two cores."""


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    """Hold the pool."""
    async with asyncpg.create_pool(os.environ["BENCH_DSN"], min_size=POOL, max_size=POOL) as pool:
        application.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/transfers", status_code=201)
async def submit(order: Order, key: Key, user: Annotated[int, Depends(user_of)]) -> dict[str, str]:
    """Execute a transfer, or return that it was executed before."""
    sides = order.from_account_id, order.to_account_id
    call = "SELECT transfer($1, $2, $3, $4, $5, $6)"
    try:
        done = await app.state.pool.fetchval(call, uuid4(), user, key, *sides, order.amount)
    except asyncpg.UniqueViolationError:  # the same key arrived twice at once; now the database has it
        done = await app.state.pool.fetchval(call, uuid4(), user, key, *sides, order.amount)
    except asyncpg.RaiseError as error:
        raise HTTPException(400, str(error)) from None
    return {"id": str(done), "status": "completed"}
