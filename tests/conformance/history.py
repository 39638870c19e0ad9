"""The history: four days of a small bank, with everything that can happen to a transfer.

Its steps never change, because tests/conformance/pinned.py has the blocks that they wrote. New steps go to the end.
Olga is the operator; Ada, Bob, Chen, Dora, Emil and Frida are customers. Amounts are minor units.
"""

from tests.conformance.acts import (
    ACCEPTED,
    CANCELLED,
    DONE,
    OLGA,
    ROLLED_BACK,
    Cancel,
    Close,
    CloseMonths,
    Deactivate,
    Erase,
    Freeze,
    Hire,
    Interrupted,
    LimitOverdraft,
    LimitPending,
    Number,
    Open,
    PayOut,
    Reactivate,
    Settle,
    SignUp,
    Step,
    Unfreeze,
    atomic,
    completed,
    day,
    deposit,
    independent,
    pay,
    together,
    withdraw,
)

LARGEST = 10**15
"""The largest amount of one transfer."""
LONG_KEY = "k-" + "~!\"'\\%?$:{}" * 23
"""255 characters, which is the maximum."""

BEGINNING = "2026-01-30 07:00:00.000007"
"""When the database is made. The genesis block has this time."""

OPENING = day(
    "2026-01-30",
    ("08:00:00", Hire(OLGA), DONE),
    ("08:00:01", SignUp("ada"), DONE),
    ("08:00:02", SignUp("bob", "chen", "dora", "emil"), DONE),
    ("08:01:00", Open("ada:usd", "USD"), DONE),
    ("08:01:01", Open("ada:savings", "USD"), DONE),
    ("08:01:02", Open("ada:third", "USD", most=2), "too_many_accounts"),
    ("08:01:03", Open("bob:usd", "USD"), DONE),
    ("08:01:04", Open("bob:eur", "EUR"), DONE),
    ("08:01:05", Open("chen:usd", "USD"), DONE),
    ("08:01:06", Open("chen:jpy", "JPY"), DONE),
    ("08:01:07", Open("dora:usd", "USD"), DONE),
    ("08:01:08", Open("emil:usd", "USD"), DONE),
    ("08:02:00", Settle(batch=100), ()),
)

FIRST_MONEY = day(
    "2026-01-30",
    ("09:00:00", deposit("ada:usd", 1_000_00, "Opening deposit", by=OLGA, key="first"), ACCEPTED),
    ("09:00:00.000001", deposit("bob:usd", 500_00), ACCEPTED),
    ("09:00:01", pay("ada:usd", "bob:usd", 1), "insufficient_funds"),  # her own money is still on its way
    (
        "09:00:02",
        together(
            deposit("bob:eur", 250_00),
            deposit("chen:jpy", 120_000, "お年玉"),
            deposit("chen:usd", 80_00),
            deposit("dora:usd", 60_00),
            deposit("emil:usd", 9_99),
        ),
        (ACCEPTED,) * 5,
    ),
    ("09:00:03", Settle(batch=2, units=1), completed(2)),
    ("09:00:04", Settle(batch=4), completed(5)),
    ("09:00:05", deposit("ada:usd", 1_000_00, "Opening deposit", by=OLGA, key="first"), "replayed"),
    ("09:00:06", deposit("ada:usd", 1_000_01, "Opening deposit", by=OLGA, key="first"), "idempotency_key_reused"),
    ("09:00:07", pay("bob:usd", "ada:usd", 20_00, "Another user's key", key="first"), ACCEPTED),
)

REFUSALS = day(
    "2026-01-30",
    ("10:00:00", pay("ada:usd", "ada:usd", 1), "same_account"),
    ("10:00:01", pay("ada:usd", Number("ada:usd"), 1), "same_account"),
    ("10:00:02", pay("ada:usd", "unknown", 1), "account_not_found"),
    ("10:00:03", pay("ada:usd", Number("unknown"), 1), "account_not_found"),
    ("10:00:04", pay("ada:usd", "outside USD", 1), "account_not_found"),
    ("10:00:05", pay("bob:usd", "ada:usd", 1, by="ada"), "account_not_found"),
    ("10:00:06", pay("ada:usd", "bob:eur", 1), "currency_mismatch"),
    ("10:00:07", pay("ada:usd", "bob:usd", 1, currency="EUR"), "currency_mismatch"),
    ("10:00:08", pay("ada:usd", "bob:usd", 1_000_01), "insufficient_funds"),
    ("10:00:09", Close("bob:eur"), "account_not_empty"),
    ("10:00:10", Cancel("ada", "unknown"), "transfer_not_found"),
)

DESCRIPTIONS = day(
    "2026-01-30",
    (
        "11:00:00",
        together(
            pay("ada:usd", "bob:usd", 700_00, "Rent"),
            pay("ada:usd", "bob:usd", 400_00, "Too much, after the rent"),
            pay("ada:usd", Number("chen:usd"), 100_00, "für Käse", key=LONG_KEY),
            pay("ada:usd", Number("chen:usd"), 100_00, "für Käse", key=LONG_KEY),
            pay("bob:eur", "ada:usd", 5_00),
        ),
        (ACCEPTED, "insufficient_funds", ACCEPTED, "replayed", "currency_mismatch"),
    ),
    ("11:00:01", pay("bob:usd", "ada:savings", 1_00, "für Ka\u0308se"), ACCEPTED),  # the same letters, decomposed
    ("11:00:02", pay("bob:usd", "ada:savings", 2_00, ""), ACCEPTED),
    ("11:00:03", pay("bob:usd", "ada:savings", 3_00, None), ACCEPTED),
    ("11:00:04", pay("bob:usd", "ada:savings", 4_00, "👩‍👩‍👧 🎉 שכר דירה"), ACCEPTED),
    ("11:00:05", pay("bob:usd", "ada:savings", 5_00, "\U0001f9c0" * 140), ACCEPTED),
    ("11:00:06", pay("bob:usd", "ada:savings", 6_00, " it's \"50 %\" \\ ? :name $1 {} -- ; ' "), ACCEPTED),
    ("11:00:07", Interrupted(pay("bob:usd", "ada:savings", 7_00, "Not committed", key="twice")), ROLLED_BACK),
    ("11:00:08", Interrupted(Settle(batch=100)), ROLLED_BACK),
    ("11:00:09", pay("bob:usd", "ada:savings", 7_00, "Sent again", key="twice"), ACCEPTED),
    ("11:00:10", Settle(batch=3), completed(10)),
    ("11:00:11", pay("ada:usd", Number("chen:usd"), 100_00, "für Käse", key=LONG_KEY), "replayed"),
)

CANCELLATIONS = day(
    "2026-01-30",
    ("12:00:00", pay("ada:usd", "bob:usd", 10_00, name="older"), ACCEPTED),
    ("12:00:01", pay("ada:usd", "bob:usd", 11_00, "Never mind", name="newer"), ACCEPTED),
    ("12:00:02", withdraw("ada:usd", 12_00, "At the counter", by=OLGA, name="counter"), ACCEPTED),
    ("12:00:03", Cancel("bob", "newer"), "transfer_not_found"),  # the payee may not know of it yet
    ("12:00:04", Cancel("ada", "counter"), "transfer_not_cancellable"),
    ("12:00:05", Interrupted(Cancel("ada", "newer")), ROLLED_BACK),
    ("12:00:06", Cancel("ada", "newer"), CANCELLED),
    ("12:00:07", Cancel("ada", "newer"), CANCELLED),
    ("12:00:08", Settle(batch=10), completed(2)),
    ("12:00:09", Cancel("ada", "older"), "transfer_not_cancellable"),
)

CHANGES_BEFORE_SETTLEMENT = day(
    "2026-01-30",
    ("13:00:00", LimitOverdraft("ada:savings", 300_00), DONE),
    ("13:00:01", pay("ada:savings", "bob:usd", 250_00, "On credit"), ACCEPTED),
    ("13:00:02", LimitOverdraft("dora:usd", 200_00), DONE),
    ("13:00:03", pay("dora:usd", "bob:usd", 230_00, "The limit is lowered meanwhile"), ACCEPTED),
    ("13:00:04", pay("dora:usd", "ada:usd", 10_00, "This one fits"), ACCEPTED),
    ("13:00:05", LimitOverdraft("dora:usd", 0), DONE),
    ("13:00:06", Settle(batch=100), ("completed", "insufficient_funds", "completed")),
    ("13:00:07", LimitOverdraft("ada:savings", 100_00), "limit_in_use"),
    ("13:01:00", pay("chen:usd", "bob:usd", 7_00, "Chen is frozen meanwhile"), ACCEPTED),
    ("13:01:01", pay("bob:usd", "chen:usd", 8_00, "Chen can still receive"), ACCEPTED),
    ("13:01:02", pay("bob:usd", "ada:savings", 9_00, "The savings are frozen meanwhile"), ACCEPTED),
    ("13:01:03", Freeze("chen:usd", "debit"), DONE),
    ("13:01:04", Freeze("ada:savings", "all"), DONE),
    ("13:01:05", Settle(batch=100), ("account_frozen", "completed", "payee_frozen")),
    ("13:01:06", pay("chen:usd", "bob:usd", 1), "account_frozen"),
    ("13:01:07", pay("ada:usd", "ada:savings", 1), "account_frozen"),
    ("13:01:08", pay("bob:usd", "ada:savings", 1), "payee_cannot_receive"),
    ("13:01:09", Close("ada:savings"), "account_frozen"),
    ("13:01:10", Unfreeze("chen:usd"), DONE),
    ("13:01:11", Unfreeze("ada:savings"), DONE),
)

WAGES = independent(
    "wages",
    pay("bob:usd", "ada:usd", 30_00, "January"),
    pay("bob:usd", "dora:usd", 9_000_00),
    pay("bob:usd", "chen:usd", 40_00, "二月の家賃", name="chen's"),
    pay("bob:usd", "unknown", 1),
)

BATCHES = day(
    "2026-01-31",
    ("09:00:00", WAGES, (ACCEPTED, "insufficient_funds", ACCEPTED, "account_not_found")),
    ("09:00:01", WAGES, ("replayed", ACCEPTED, "insufficient_funds", ACCEPTED, "account_not_found")),
    ("09:00:02", independent("wages", pay("bob:usd", "ada:usd", 30_00)), "idempotency_key_reused"),
    ("09:00:03", independent("free", pay("bob:usd", "bob:usd", 1)), ("same_account",)),
    ("09:00:04", pay("bob:usd", "ada:usd", 1_00, "The key was still free", key="free"), ACCEPTED),
    (
        "09:00:05",
        atomic("all", pay("ada:usd", "bob:usd", 5_00), pay("ada:usd", "dora:usd", 5_000_00)),
        "insufficient_funds at 1",
    ),
    (
        "09:00:06",
        atomic(
            "all",
            pay("ada:usd", "bob:usd", 1_01),
            pay("ada:usd", "chen:usd", 1_02, name="bound"),
            pay("ada:usd", "dora:usd", 1_03),
            pay("ada:usd", "emil:usd", 1_04),
        ),
        (ACCEPTED,) * 4,
    ),
    ("09:00:07", Cancel("ada", "bound"), "transfer_not_cancellable"),
    ("09:00:08", Cancel("bob", "chen's"), CANCELLED),
    ("09:00:09", Settle(batch=3, units=1), completed(6)),  # an atomic batch is never split
    (
        "09:01:00",
        atomic(
            "fails",
            pay("bob:usd", "ada:usd", 2_01),
            pay("bob:usd", "dora:usd", 2_02, "Dora is frozen meanwhile"),
            pay("bob:usd", "chen:usd", 2_03),
        ),
        (ACCEPTED,) * 3,
    ),
    ("09:01:01", pay("bob:usd", "emil:usd", 2_04), ACCEPTED),
    ("09:01:02", Freeze("dora:usd", "all"), DONE),
    ("09:01:03", Settle(batch=100), ("batch_failed by 1", "payee_frozen", "batch_failed by 1", "completed")),
    ("09:01:04", Unfreeze("dora:usd"), DONE),
    ("09:02:00", LimitPending("chen", 2), DONE),
    ("09:02:01", pay("chen:usd", "bob:usd", 50), ACCEPTED),
    (
        "09:02:02",
        together(pay("chen:jpy", "unknown", 1), pay("chen:usd", "bob:usd", 51), pay("chen:usd", "bob:usd", 52)),
        ("account_not_found", ACCEPTED, "too_many_pending"),
    ),
    ("09:02:03", independent("late", pay("chen:usd", "bob:usd", 53)), "too_many_pending"),
    ("09:02:04", LimitPending("chen", None), DONE),
    ("09:02:05", Settle(batch=1), completed(2)),
)

MONTH_END = (
    *day(
        "2026-01-31",
        ("23:59:58", pay("ada:usd", "bob:usd", 3_00, "Still January"), ACCEPTED),
        ("23:59:59.999998", pay("ada:usd", "bob:usd", 4_00, "Settled in February"), ACCEPTED),
        ("23:59:59.999999", Settle(batch=1, units=1), completed(1)),
    ),
    *day(
        "2026-02-01",
        ("00:00:00", CloseMonths(), "closed 1, made 8 statements"),
    ),
    *day(  # The clock is set back: the times of the ledger do not go back with it, nor into the closed month.
        "2026-01-31",
        ("23:59:51", pay("bob:usd", "chen:usd", 5_00, "Ten seconds earlier", name="early"), ACCEPTED),
        ("23:59:52", pay("bob:usd", "chen:usd", 6_00), ACCEPTED),
        ("23:59:53", Cancel("bob", "early"), CANCELLED),
        ("23:59:54", Settle(batch=100), completed(2)),
    ),
)

LARGE_AMOUNTS = day(
    "2026-02-01",
    ("09:00:00", SignUp("frida"), DONE),
    ("09:00:01", Open("frida:usd", "USD"), DONE),
    ("09:00:02", together(*[deposit("frida:usd", LARGEST, "Oil", by=OLGA)] * 8), (ACCEPTED,) * 8),
    ("09:00:03", Settle(batch=3), completed(8)),
    ("09:00:04", deposit("frida:usd", LARGEST), ACCEPTED),
    ("09:00:05", deposit("frida:usd", LARGEST, "Each fits, both do not"), ACCEPTED),
    ("09:00:06", Settle(batch=100), ("completed", "balance_limit_exceeded")),
    ("09:00:07", deposit("frida:usd", 1), "balance_limit_exceeded"),
    ("09:00:08", withdraw("frida:usd", LARGEST), ACCEPTED),
    ("09:00:09", pay("frida:usd", "bob:usd", LARGEST - 1), ACCEPTED),
    ("09:00:10", LimitOverdraft("bob:usd", 9 * LARGEST), DONE),
    ("09:00:11", pay("bob:usd", "ada:usd", LARGEST), ACCEPTED),
    ("09:00:12", Settle(batch=2), completed(3)),
)

FAREWELLS = day(
    "2026-02-02",
    ("09:00:00", pay("dora:usd", "ada:usd", 10_00, "Too late"), ACCEPTED),
    ("09:00:01", Deactivate("dora"), DONE),
    ("09:00:02", pay("ada:usd", "dora:usd", 5_00), ACCEPTED),
    ("09:00:03", withdraw("dora:usd", 1_00, by=OLGA), ACCEPTED),
    ("09:00:04", Settle(batch=100), ("owner_inactive", "completed", "owner_inactive")),
    ("09:00:05", Reactivate("dora"), DONE),
    ("09:00:06", withdraw("dora:usd", 1_00, by=OLGA), ACCEPTED),
    ("09:01:00", Erase("emil"), "user_active"),
    ("09:01:01", PayOut("emil"), (ACCEPTED,)),
    ("09:01:02", Settle(batch=1), completed(2)),
    ("09:01:03", Deactivate("emil"), DONE),
    ("09:01:04", Erase("emil"), DONE),
    ("09:01:05", Reactivate("emil"), "user_erased"),
    ("09:01:06", pay("ada:usd", "emil:usd", 1), "payee_cannot_receive"),
    ("09:01:07", deposit("emil:usd", 1), "account_closed"),
    ("09:02:00", Open("bob:spare", "EUR"), DONE),
    ("09:02:01", pay("bob:eur", "bob:spare", 50_00, name="spare"), ACCEPTED),
    ("09:02:02", Close("bob:spare"), "account_has_pending"),
    ("09:02:03", Cancel("bob", "spare"), CANCELLED),
    ("09:02:04", Close("bob:spare"), DONE),
    ("09:02:05", pay("bob:spare", "bob:eur", 1), "account_closed"),
)

STILL_PENDING = day(
    "2026-02-02",
    ("10:00:00", pay("ada:usd", "bob:usd", 1_11), ACCEPTED),
    ("10:00:01", pay("ada:usd", "bob:usd", 2_22), ACCEPTED),
    ("10:00:02", Settle(batch=1, units=1), completed(1)),
    ("10:00:03", pay("ada:usd", "bob:usd", 3_33, name="last"), ACCEPTED),
    ("10:00:04", withdraw("bob:eur", 4_44), ACCEPTED),
    ("10:00:05", deposit("chen:jpy", 5), ACCEPTED),
    ("10:00:06", Cancel("ada", "last"), CANCELLED),
)

HISTORY: tuple[Step, ...] = (
    *OPENING,
    *FIRST_MONEY,
    *REFUSALS,
    *DESCRIPTIONS,
    *CANCELLATIONS,
    *CHANGES_BEFORE_SETTLEMENT,
    *BATCHES,
    *MONTH_END,
    *LARGE_AMOUNTS,
    *FAREWELLS,
    *STILL_PENDING,
)
