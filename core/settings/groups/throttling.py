"""Rates and guesses."""

from pydantic import Field

from core.settings.groups.base import SettingsGroup
from core.settings.types import RateText


class ThrottlingSettings(SettingsGroup):
    """How often a client may call, and how often it may guess."""

    title = "Throttles"

    throttle_account_tries: int = Field(
        10,
        ge=0,
        le=1000,
        description="Failed log-ins for one e-mail address from one client address, or with one device token, before "
        "each further one has to wait, twice as long as the one before. The same holds for wrong current passwords in "
        "a password change. One failure is forgotten every 15 minutes, and all of them after a success. `0`: no "
        "throttle.",
    )
    throttle_account_everywhere_tries: int = Field(
        100,
        ge=0,
        le=100_000,
        description="The same for failed log-ins for one e-mail address from all client addresses together. Log-ins "
        "with a valid device token neither count nor wait. One is forgotten every 15 minutes. `0`: no throttle.",
    )
    throttle_address_tries: int = Field(
        50,
        ge=0,
        le=100_000,
        description="The same for failed log-ins, and for rejected refresh tokens, of one client address. One is "
        "forgotten every minute. `0`: no throttle.",
    )
    throttle_sign_up_tries: int = Field(
        20,
        ge=0,
        le=100_000,
        description="The same for rejected sign-ups of one client address, for example with an e-mail address that is "
        "taken. `0`: no throttle.",
    )
    throttle_sign_ups: int = Field(
        20,
        ge=0,
        le=100_000,
        description="Sign-ups of one client address before further ones keep a pace. One is forgotten every minute. "
        "`0`: no pace.",
    )
    throttle_sign_ups_seconds: float = Field(
        0.2,
        ge=0.01,
        le=60,
        description="This pace: the time from one sign-up of the address to the next. Others wait in the order of "
        "their arrival.",
    )
    throttle_sign_ups_waiting: int = Field(
        128,
        ge=1,
        le=512,
        description="Sign-ups of one client address that may wait. One more is answered 503 `unavailable`.",
    )
    throttle_payee_tries: int = Field(
        100,
        ge=0,
        le=100_000,
        description="The same for transfers of one user, single or lines of a batch, whose payee is unknown or cannot "
        "receive. One is forgotten every minute. `0`: no throttle.",
    )
    throttle_first_seconds: float = Field(1, ge=0.001, le=3600, description="The first such wait.")
    throttle_longest_seconds: float = Field(900, ge=0.001, le=86_400, description="The longest such wait.")
    limit_transfers: RateText = Field(
        "off",
        description="Requests that one user may send to each route that moves money: transfers, batches, "
        "cancellations, deposits, withdrawals. A batch counts as one request for each line; one with more lines than "
        "may come at once takes a full allowance. `1000/10`: a thousand at once, then a hundred per second. `off`: any "
        "number.",
    )
    limit_reads: RateText = Field("1000/10", description="The same for each route that reads.")
    limit_writes: RateText = Field(
        "1000/10",
        description="The same for each other route that needs a token, as for opening accounts or issuing cards.",
    )
    limit_anonymous: RateText = Field(
        "300/60",
        description="Requests that one client address may send to each of `/signup`, `/login` and `/token/refresh`.",
    )
    limit_anonymous_reads: RateText = Field(
        "200/10",
        description="Requests that one client address may send to each `GET` that needs no token: health, "
        "documentation, `/`. Programs on the machine itself are not limited.",
    )
    limit_anonymous_refusals: RateText = Field(
        "1000/60",
        description="Requests without a valid token that one client address may have refused: missing routes, missing "
        "and invalid tokens, invalid requests. Programs on the machine itself are not limited.",
    )
    limit_document_rows: RateText = Field(
        "200000/600",
        description="Transactions that one user may have drawn as CSV, PDF or camt.053, in all documents together. A "
        "document of more than that needs the whole budget. `off`: any number.",
    )
    refusal_seconds: float = Field(
        1,
        ge=0,
        le=10,
        description="Longest time that a refusal is held if its client is beyond a rate or its share of a waiting "
        "line, so that no connection gets many refusals a second. `0`: refusals are not held.",
    )
