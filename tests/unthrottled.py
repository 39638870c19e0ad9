"""Settings of a service without throttles, for tests that send more requests than a client may."""

NO_WAITS = dict.fromkeys(
    (
        "throttle_account_tries",
        "throttle_account_everywhere_tries",
        "throttle_address_tries",
        "throttle_sign_up_tries",
        "throttle_sign_ups",
        "throttle_payee_tries",
    ),
    0,
)

UNTHROTTLED = NO_WAITS | dict.fromkeys(
    (
        "limit_transfers",
        "limit_reads",
        "limit_writes",
        "limit_anonymous",
        "limit_anonymous_reads",
        "limit_anonymous_refusals",
        "limit_document_rows",
    ),
    "off",
)
