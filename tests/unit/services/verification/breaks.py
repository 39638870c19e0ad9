"""Changes of a ledger by hand, and the rules that each of them breaks."""

ADA = "id = (SELECT min(id) FROM accounts WHERE kind = 'customer')"
ADAS_FIRST_LEG = f"id = (SELECT min(id) FROM transactions WHERE account_id = (SELECT id FROM accounts WHERE {ADA}))"
ADAS_LAST_LEG = f"id = (SELECT last_transaction_id FROM accounts WHERE {ADA})"
LAST_SETTLED = "id = (SELECT max(transfer_id) FROM transactions)"
FAILED = "id IN (SELECT id FROM endings WHERE status = 'failed')"
NEWEST = "id = (SELECT max(id) FROM transfers)"
LAST_PAIR = "transfer_id = (SELECT max(transfer_id) FROM transactions)"
LAST_DEBIT = f"{LAST_PAIR} AND amount < 0"
LAST_CREDIT = f"{LAST_PAIR} AND amount > 0"
OF_ADA = f"account_id = (SELECT id FROM accounts WHERE {ADA})"
ACCEPT, SETTLE = "name = 'accept'", "name = 'settle'"
PAYER = "(SELECT from_account_id FROM transfers WHERE transfers.id = endings.id)"
COMPLETE_THE_FAILED = (
    "UPDATE endings SET status = 'completed', failure_code = NULL, payer_id = NULL WHERE status = 'failed'"
)

BREAKS: list[tuple[str, list[str]]] = [
    # Rules, and statements that each break exactly one of them.
    # A raised balance breaks two rules at once: its own legs, and the sum of its currency.
    (
        "currency_sums_to_zero balance_is_sum_of_legs",
        [f"UPDATE accounts SET balance = balance + 5 WHERE {ADA}"],
    ),
    (
        "currency_sums_to_zero balance_is_sum_of_legs",
        ["UPDATE accounts SET balance = balance + 1 WHERE kind = 'external'"],
    ),
    (
        "balance_is_sum_of_legs",
        [
            f"UPDATE accounts SET balance = balance + 5 WHERE {ADA}",
            "UPDATE accounts SET balance = balance - 5 WHERE kind = 'external' AND currency = 'USD'",
        ],
    ),
    ("balance_after_recomputes", [f"UPDATE transactions SET balance_after = balance_after + 1 WHERE {LAST_CREDIT}"]),
    (
        "balance_after_recomputes",
        [f"UPDATE transactions SET balance_after = balance_after + 1 WHERE {ADAS_FIRST_LEG}"],
    ),
    (
        "chain_is_whole",
        [f"UPDATE transactions SET previous_id = previous_id - 1 WHERE {ADAS_LAST_LEG}"],
    ),
    ("chain_is_whole", [f"UPDATE transactions SET previous_id = NULL WHERE {ADAS_LAST_LEG}"]),
    ("chain_is_whole", [f"UPDATE accounts SET last_transaction_id = last_transaction_id - 1 WHERE {ADA}"]),
    ("chain_is_whole", [f"UPDATE accounts SET last_transaction_id = NULL WHERE {ADA}"]),
    (
        "time_never_goes_back lanes_go_on",
        [f"UPDATE transactions SET posted_at = posted_at - 3600000000 WHERE {LAST_PAIR}"],
    ),
    (
        "legs_match_transfer",
        ["UPDATE transfers SET amount = amount + 1 WHERE id = (SELECT max(transfer_id) FROM transactions)"],
    ),
    (
        "legs_match_transfer transfer_chain_is_whole",
        [f"UPDATE transfers SET from_account_id = to_account_id, to_account_id = from_account_id WHERE {LAST_SETTLED}"],
    ),
    (
        "completed_has_legs",
        [
            COMPLETE_THE_FAILED,
        ],
    ),
    (
        "completed_has_legs blocks_are_whole",
        [
            f"UPDATE endings SET status = 'cancelled', payer_id = {PAYER} WHERE {LAST_SETTLED}",
            COMPLETE_THE_FAILED,
        ],
    ),
    ("limit_was_set", [f"UPDATE accounts SET overdraft_limit = overdraft_limit + 1000 WHERE {ADA}"]),
    ("reserved_is_pending", [f"UPDATE reservations SET reserved_low = reserved_low + 1 WHERE {OF_ADA}"]),
    ("reserved_is_pending", [f"UPDATE reservations SET reserved_high = reserved_high + 1 WHERE {OF_ADA}"]),
    ("reserved_is_pending", [f"UPDATE reservations SET reserved_count = reserved_count + 1 WHERE {OF_ADA}"]),
    ("reserved_is_pending", [f"UPDATE accounts SET released_low = released_low + 42 WHERE {ADA}"]),
    ("reserved_is_pending", [f"UPDATE accounts SET released_high = released_high + 1 WHERE {ADA}"]),
    ("reserved_is_pending", [f"UPDATE accounts SET released_count = released_count + 1 WHERE {ADA}"]),
    ("totals_are_running", [f"UPDATE accounts SET leg_count = leg_count + 1 WHERE {ADA}"]),
    ("totals_are_running", [f"UPDATE accounts SET credits_low = credits_low - 1 WHERE {ADA}"]),
    ("totals_are_running", [f"UPDATE accounts SET credits_high = 1 WHERE {ADA}"]),
    ("totals_are_running", ["INSERT INTO milestones SELECT id, 1, last_transaction_id, 1, 0, 0 FROM accounts LIMIT 1"]),
    ("transfer_chain_is_whole", [f"UPDATE transfers SET previous_id = previous_id - 1 WHERE {LAST_SETTLED}"]),
    ("transfer_chain_is_whole", [f"UPDATE transfers SET previous_id = NULL WHERE {NEWEST}"]),
    ("transfer_chain_is_whole", [f"UPDATE reservations SET last_transfer_id = last_transfer_id - 1 WHERE {OF_ADA}"]),
    ("time_never_goes_back lanes_go_on", [f"UPDATE transfers SET created_at = created_at - 3600000000 WHERE {NEWEST}"]),
    ("legs_match_transfer", [f"UPDATE transfers SET currency = 'EUR' WHERE {LAST_SETTLED}"]),
    # SQLite also finds it, by its CHECKs.
    ("ending_is_whole file_is_sound", [f"UPDATE endings SET failure_code = 'account_closed' WHERE {LAST_SETTLED}"]),
    # SQLite also finds it, by its CHECKs.
    (
        "ending_is_whole file_is_sound",
        [f"INSERT INTO endings (id, status, ended_at) SELECT id, 'pending', 5 FROM transfers WHERE {NEWEST}"],
    ),
    ("ending_is_whole file_is_sound", ["UPDATE endings SET payer_id = 2 WHERE id = 1"]),
    ("ending_is_whole", ["UPDATE endings SET payer_id = payer_id - 1 WHERE status = 'failed'"]),
    ("ending_is_whole", ["INSERT INTO endings (id, status, ended_at) VALUES (0, 'completed', 5)"]),
    (
        "ending_is_whole lanes_go_on",
        [f"INSERT INTO endings (id, status, ended_at) SELECT id + 1, 'completed', 5 FROM transfers WHERE {NEWEST}"],
    ),
    # Nobody settles it any more, and the block that ended it has one ending too few.
    ("ending_is_whole blocks_are_whole", ["DELETE FROM endings WHERE status = 'failed'"]),
    ("lanes_go_on", [f"UPDATE lanes SET next_id = next_id + 1 WHERE {ACCEPT}"]),
    ("lanes_go_on", [f"UPDATE lanes SET next_id = next_id - 1 WHERE {ACCEPT}"]),
    ("lanes_go_on", [f"UPDATE lanes SET next_id = next_id + 1 WHERE {SETTLE}"]),
    ("lanes_go_on", [f"UPDATE lanes SET next_id = next_id - 1 WHERE {SETTLE}"]),
    ("lanes_go_on", [f"UPDATE lanes SET watermark = watermark - 1 WHERE {SETTLE}"]),
    ("lanes_go_on", [f"UPDATE lanes SET watermark = watermark + 1 WHERE {SETTLE}"]),
    ("lanes_go_on", [f"UPDATE lanes SET newest_at = newest_at - 1 WHERE {ACCEPT}"]),
    ("lanes_go_on", [f"UPDATE lanes SET newest_at = newest_at + 1 WHERE {ACCEPT}"]),
    ("lanes_go_on", [f"UPDATE lanes SET newest_at = newest_at + 1 WHERE {SETTLE}"]),
    (
        "lanes_go_on",
        [f"UPDATE lanes SET newest_at = (SELECT max(posted_at) - 1 FROM transactions) WHERE {SETTLE}"],
    ),
    ("file_is_sound", [f"UPDATE transfers SET submitted_by = 999 WHERE {NEWEST}"]),
    ("file_is_sound", ["INSERT INTO refresh_tokens VALUES (1, 999, x'00', x'00', 0, 0, 1, NULL)"]),
    (
        "keys_are_unique schema_is_whole",
        [
            "DROP INDEX uq_transfers_idempotency_key",
            "UPDATE transfers SET idempotency_key = 'a', fingerprint = x'00' WHERE id NOT IN (SELECT id FROM endings)",
        ],
    ),
    (
        "blocks_are_whole",
        [
            (
                "INSERT INTO endings SELECT id, 'cancelled', created_at, NULL, from_account_id FROM transfers "
                f"WHERE {NEWEST}"
            ),
            f"UPDATE accounts SET released_low = released_low + 2, released_count = released_count + 1 WHERE {ADA}",
        ],
    ),
]
BREAKS_OF_BLOCKS: list[tuple[str, list[str]]] = [
    ("block_recomputes", ["UPDATE blocks SET hash = zeroblob(32) WHERE height = 2"]),
    ("block_recomputes", [f"UPDATE transfers SET description = 'for supper' WHERE {FAILED}"]),
    ("block_recomputes", [f"UPDATE endings SET ended_at = ended_at + 1 WHERE {LAST_SETTLED}"]),
    ("block_recomputes", ["UPDATE endings SET failure_code = 'account_closed' WHERE status = 'failed'"]),
    ("block_recomputes", ["UPDATE transfers SET public_id = randomblob(16) WHERE id = 2"]),
    ("block_recomputes", [f"UPDATE transfers SET request_id = 'another' WHERE {LAST_SETTLED}"]),
    ("block_recomputes lanes_go_on", [f"UPDATE transactions SET posted_at = posted_at + 1 WHERE {LAST_PAIR}"]),
    ("block_recomputes", ["UPDATE blocks SET hash = (SELECT hash FROM blocks WHERE height = 3) WHERE height = 2"]),
    ("blocks_are_whole", ["UPDATE blocks SET leg_count = leg_count - 1 WHERE height = 2"]),
    ("blocks_are_whole", ["UPDATE blocks SET last_sequence = last_sequence - 1 WHERE height = 4"]),
    ("blocks_are_whole", ["DELETE FROM blocks WHERE height = (SELECT max(height) FROM blocks)"]),
    ("blocks_are_whole", ["DELETE FROM blocks WHERE height = 0"]),
    ("blocks_are_whole", ["DELETE FROM blocks"]),
]
BREAKS_OF_TYPES = [
    ("accounts", "UPDATE accounts SET balance = 'much' WHERE currency = 'JPY' AND kind = 'customer'"),
    ("accounts", f"UPDATE accounts SET released_low = CAST(released_low AS REAL) WHERE {ADA}"),
    ("reservations", f"UPDATE reservations SET reserved_low = CAST(reserved_low AS REAL) WHERE {OF_ADA}"),
    ("endings", f"UPDATE endings SET ended_at = CAST(ended_at AS REAL) WHERE {LAST_SETTLED}"),
    ("transactions", f"UPDATE transactions SET amount = 1.5 WHERE {LAST_DEBIT}"),
    ("transfers", f"UPDATE transfers SET amount = 1.0 WHERE {LAST_SETTLED}"),
    ("transfers", f"UPDATE transfers SET amount = '2' WHERE {NEWEST}"),
]
JANUARY = "run_id = 1 AND account_id = (SELECT min(id) FROM accounts WHERE kind = 'customer')"
FEBRUARY = JANUARY.replace("run_id = 1", "run_id = 2")
BREAKS_OF_STATEMENTS: list[tuple[str, list[str]]] = [
    ("statements_follow", [f"UPDATE statements SET number = 3 WHERE {FEBRUARY}"]),
    ("statements_follow", ["UPDATE statements SET number = number + 1"]),
    (
        "statements_follow",
        [f"DELETE FROM statements WHERE {JANUARY}", "UPDATE statement_runs SET statements = 2 WHERE id = 1"],
    ),
    ("run_counts_statements", [f"DELETE FROM statements WHERE {FEBRUARY}"]),
    ("run_counts_statements", ["UPDATE statement_runs SET statements = statements + 1 WHERE id = 1"]),
    ("statement_recomputes", [f"UPDATE statements SET opening_balance = opening_balance + 1 WHERE {FEBRUARY}"]),
    ("statement_recomputes", [f"UPDATE statements SET closing_balance = closing_balance + 1 WHERE {JANUARY}"]),
    ("statement_recomputes", [f"UPDATE statements SET total_credits = '1001' WHERE {JANUARY}"]),
    ("statement_recomputes", [f"UPDATE statements SET total_debits = '0' WHERE {JANUARY}"]),
    ("statement_recomputes", [f"UPDATE statements SET transaction_count = transaction_count + 1 WHERE {JANUARY}"]),
    ("statement_recomputes", [f"UPDATE statements SET closing_transaction_id = 1 WHERE {FEBRUARY}"]),
]
BROKEN_BELOW = {"balance_within_limit", "values_are_integers"}
"""Rules that need more than statements; they have their own tests."""
BROKEN_ELSEWHERE = {"anchor_holds", "batch_is_whole", "scar_is_signed", "schema_is_whole"}
"""See test_anchors.py, test_batches.py, test_resealing.py and test_corruption.py."""
