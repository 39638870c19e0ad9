"""Settings of a service without throttles, for tests that send more requests than a client may."""

NO_WAITS = {
    "throttle_account_tries": 0,
    "throttle_address_tries": 0,
    "throttle_sign_up_tries": 0,
    "throttle_sign_ups": 0,
}

UNTHROTTLED = NO_WAITS | dict.fromkeys(
    (
        "limit_transfers",
        "limit_reads",
        "limit_writes",
        "limit_anonymous",
        "limit_anonymous_reads",
        "limit_anonymous_refusals",
    ),
    "off",
)
