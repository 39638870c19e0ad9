"""The parts that live as long as the API process: the container that routes get, and how it is opened and closed."""

import asyncio
from dataclasses import dataclass

import redis
import redis.asyncio

from api.runtime.access_log import AccessLog
from api.runtime.fair_line import FairLine
from api.runtime.hashing import Hashing
from api.runtime.intake import Intake
from api.runtime.reading import Reading
from api.runtime.sign_ups import SignUps, sign_ups_of
from api.runtime.waiters import Waiters
from api.throttling import Throttles
from api.throttling.tally import connect as connect_tally
from core.queue.broker import connect, make_broker
from core.queue.wakeups import Waker
from core.security.access_tokens import AccessTokens
from core.security.card_vault import CardVault
from core.security.cursors import Cursors
from core.security.device_tokens import DeviceTokens
from core.security.passwords import Passwords
from core.security.secrets import Secrets
from core.security.token_keys import TokenKeys
from core.services.cards.keys import check_keys
from core.services.identity.sessions import last_restore
from core.settings import Settings
from core.storage.engines import Engine, Glance

DOCUMENTS_OF_ONE_USER = 2
"""Documents that one user may have waiting to be drawn."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of a running API, made once at its start."""

    settings: Settings
    database: Engine
    glance: Glance
    intake: Intake
    refusals: AccessLog
    throttles: Throttles
    waiters: Waiters
    waker: Waker
    passwords: Passwords
    hashing: Hashing
    reading: Reading
    sign_ups: SignUps
    drawing: FairLine
    """Requests for documents wait here, by user: one document is drawn at a time."""
    access_tokens: AccessTokens
    device_tokens: DeviceTokens
    cursors: Cursors
    card_vault: CardVault


def open_runtime(
    settings: Settings, database: Engine, queue: redis.Redis | None, tally: redis.asyncio.Redis | None
) -> Runtime:
    """Make the parts of an API process, and start those that run on threads.

    `queue` and `tally` replace the clients that are made from `REDIS_URL`. Raises SettingsError for keys that do not
    fit.
    """
    secrets = Secrets(settings)
    card_vault = CardVault(secrets)
    check_keys(database, card_vault)
    waker = Waker(make_broker(queue or connect(secrets.queue_url())))
    waker.start()
    glance = database.glance()
    intake = Intake(
        database,
        waiting=settings.intake_waiting,
        group=settings.intake_group,
        seconds=settings.intake_seconds,
        bounds=settings.pending_bounds,
        on_accepted=waker.wake,
    )
    return Runtime(
        settings=settings,
        database=database,
        glance=glance,
        intake=intake,
        refusals=AccessLog(intake),
        throttles=Throttles(settings, secrets, tally or connect_tally(secrets.queue_url())),
        waiters=Waiters(glance, poll_seconds=settings.wait_poll_seconds),
        waker=waker,
        passwords=Passwords(settings.password_hash_rounds),
        hashing=Hashing(threads=settings.password_hash_threads, waiting=settings.password_hash_waiting),
        reading=Reading(database),
        sign_ups=sign_ups_of(settings),
        drawing=FairLine(
            "documents", at_once=1, waiting=settings.documents_waiting, waiting_each=DOCUMENTS_OF_ONE_USER
        ),
        access_tokens=AccessTokens(TokenKeys(secrets), seconds=settings.access_token_seconds),
        device_tokens=DeviceTokens(
            secrets.card_index_key.read_or_make(), days=settings.device_token_days, since=last_restore(database)
        ),
        cursors=Cursors(secrets.card_index_key.read_or_make()),
        card_vault=card_vault,
    )


async def close_runtime(runtime: Runtime) -> None:
    """Stop the parts in the order in which work flows: each part before the parts that it passes work to."""
    await runtime.waiters.stop()
    await runtime.refusals.stop()
    await runtime.intake.stop()
    await runtime.throttles.close()
    await asyncio.to_thread(runtime.waker.stop)
    await runtime.glance.close()
    await runtime.database.async_reader.dispose()
    runtime.database.close()
