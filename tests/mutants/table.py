"""Bugs that would cost money, each with its change to the code and the tests that must find it.

A surviving mutant is a gap in the tests: add a test. A mutant whose text is no longer in the code must be updated.
"""

from tests.mutants.breaches import BREACHES
from tests.mutants.lanes import LANES
from tests.mutants.mutant import SIMULATION, Mutant

__all__ = ["MUTANTS", "SIMULATION", "Mutant"]

MUTANTS = (
    *BREACHES,
    *LANES,
    # --- settlement ---
    Mutant(
        "two endings of one transfer",
        "migrations/versions/0016_transfers_begin_to_move.py",
        (("        CONSTRAINT pk_endings PRIMARY KEY (id),\n", ""),),
        ("tests/unit/services/transfers/test_settlement.py::test_an_ended_transfer_cannot_end_again",),
        quick=True,
    ),
    Mutant(
        "a transfer that ended elsewhere passed over where others fail",
        "core/storage/transfers.py",
        (
            ("import contextmanager\n", "import contextmanager, suppress\n"),
            ("    with _ended_once():\n        _END", "    with suppress(IntegrityError):\n        _END"),
        ),
        ("tests/unit/services/transfers/test_settlement.py::test_an_ended_transfer_cannot_end_again",),
    ),
    Mutant(
        "a transfer that ended elsewhere passed over where many complete",
        "core/storage/transfers.py",
        (
            (
                '"INSERT INTO endings (id, status, ended_at) SELECT',
                '"INSERT OR IGNORE INTO endings (id, status, ended_at) SELECT',
            ),
        ),
        (
            "tests/unit/services/transfers/test_settlement.py::test_a_transfer_that_ended_elsewhere_rolls_everything_back",
        ),
    ),
    Mutant(
        "the commit of a settlement split in two",
        "core/services/transfers/settlement.py",
        (
            (
                "        if unit.rows:\n            _write_accounts",
                (
                    "        connection.exec_driver_sql('COMMIT')\n"
                    "        connection.exec_driver_sql('BEGIN IMMEDIATE')\n"
                    "        if unit.rows:\n            _write_accounts"
                ),
            ),
        ),
        (SIMULATION,),
        quick=True,
    ),
    Mutant(
        "planned outside the lock",
        "core/services/transfers/settlement.py",
        (
            (
                "    with unit_of_work(database, Lane.SETTLE) as connection:\n        # Everything",
                (
                    "    with database.reading() as early:\n"
                    "        ids = [row[0] for row in early.exec_driver_sql('SELECT id FROM accounts')]\n"
                    "        planned = {account.id: account for account in accounts.read_for_settlement(early, ids)}\n"
                    "    with unit_of_work(database, Lane.SETTLE) as connection:\n        # Everything"
                ),
            ),
            ("        known: dict[int, LedgerAccount] = {}\n", "        known = planned\n"),
        ),
        (SIMULATION,),
        quick=True,
    ),
    Mutant(
        "balance_after from a stale read",
        "core/services/transfers/settlement.py",
        (("list(met - known.keys())", "list(met)"),),
        ("tests/unit/services/transfers/test_settlement.py::test_chains_are_whole_across_chunks_and_units_of_work",),
        quick=True,
    ),
    Mutant(
        "settled by amount, not in the order of acceptance",
        "core/storage/transfers.py",
        ((" ORDER BY id LIMIT :limit", " ORDER BY amount LIMIT :limit"),),
        ("tests/unit/services/transfers/test_settlement.py::test_transfers_settle_in_the_order_of_their_acceptance",),
    ),
    Mutant(
        "no second check at settlement",
        "core/domain/ledger.py",
        (("        reason = refusal(payer, payee, amount, spoken_for=0)\n", "        reason = None\n"),),
        ("tests/unit/services/transfers/test_settlement.py::test_every_rule_is_checked_again_at_settlement",),
    ),
    Mutant(
        "the reservation of a failed transfer kept",
        "core/domain/ledger.py",
        (
            ("        _release(payer, amount)\n", ""),
            (
                "        self._post(order.sequence, payer, -amount)\n",
                "        _release(payer, amount)\n        self._post(order.sequence, payer, -amount)\n",
            ),
        ),
        ("tests/unit/services/transfers/test_settlement.py::test_every_rule_is_checked_again_at_settlement",),
    ),
    Mutant(
        "a milestone of a batch that fails kept",
        "core/domain/ledger.py",
        (("        del self.settlement.milestones[milestones:]\n", ""),),
        ("tests/unit/test_ledger.py",),
    ),
    Mutant(
        "a user's room for pending transfers never used up",
        "core/services/transfers/pending.py",
        (("self._left[owner] = left - 1", "self._left[owner] = left"),),
        ("tests/unit/services/transfers/test_pending.py",),
    ),
    Mutant(
        "an overdraft by one cent",
        "core/domain/ledger.py",
        (("- amount < payer.floor:", "- amount < payer.floor - 1:"),),
        ("tests/unit/test_ledger.py",),
    ),
    Mutant(
        "a clock that went back trusted",
        "core/services/transfers/settlement.py",
        (("max(now_us(), found.newest_at, closed, accounts.last_opened_at(connection))", "now_us()"),),
        (SIMULATION,),
    ),
    Mutant(
        "a second worker allowed",
        "workers/broker.py",
        (("        if not lock.take(SETTLES):\n", "        if not lock.take(SETTLES) and False:\n"),),
        ("tests/workers/test_broker.py::test_standby_worker_takes_over_when_the_first_is_gone",),
    ),
    Mutant(
        "the wake-up key cleared after the read",
        "workers/jobs/settlement.py",
        (
            (
                "        take_wakeup(broker)\n        settled = self.settle()\n",
                "        settled = self.settle()\n        take_wakeup(broker)\n",
            ),
        ),
        (SIMULATION,),
    ),
    Mutant(
        "no sweep",
        "workers/schedule.py",
        (("    sent = send_wakeup(broker)\n", "    sent = False\n"),),
        ("tests/workers/test_schedule.py::test_transfer_pending_for_too_long_wakes_the_worker",),
    ),
    Mutant(
        "no sweep of transfers that a clock set back has made too young",
        "workers/schedule.py",
        (("if 0 <= age <= age_seconds:", "if age <= age_seconds:"),),
        (SIMULATION,),
    ),
    # --- acceptance and cancellation ---
    Mutant(
        "answered before the commit",
        "api/runtime/intake.py",
        (
            (
                "                outcomes = self._perform(connection, group)\n",
                (
                    "                outcomes = self._perform(connection, group)\n"
                    "                answers = list(zip(group, outcomes, strict=True))\n"
                    "                self._loop.call_soon_threadsafe(_resolve, answers)\n"
                ),
            ),
        ),
        (SIMULATION,),
    ),
    Mutant(
        "wake-up sent before the commit",
        "api/runtime/intake.py",
        (
            (
                "                outcomes = self._perform(connection, group)\n",
                "                outcomes = self._perform(connection, group)\n                self._on_accepted()\n",
            ),
            ("            self._on_accepted()\n        self._loop", "            pass\n        self._loop"),
        ),
        (SIMULATION,),
    ),
    Mutant(
        "an expired request accepted",
        "api/runtime/intake.py",
        (("            del self._jobs[job]\n            self._show_waiting()\n        if not", "        if not"),),
        ("tests/api/runtime/test_intake.py::TestARequestWhoseTimeRunsOut",),
    ),
    Mutant(
        "a group taken before its turn",
        "api/runtime/intake.py",
        (
            ("        group: list[Job] = []\n        try:", "        group = self._take(held)\n        try:"),
            ("                group = self._take(held)\n", ""),
        ),
        (SIMULATION,),
    ),
    Mutant(
        "funds reserved twice within a group",
        "core/domain/ledger.py",
        (("        self.ledger.reserved += amount\n", ""),),
        (
            "tests/unit/services/transfers/test_accepting.py::test_each_request_sees_the_reservations_of_those_before_it",
        ),
    ),
    Mutant(
        "incoming pending funds spent",
        "core/services/transfers/accepting.py",
        (("spoken_for=payer.ledger.reserved)", "spoken_for=0)"),),
        (
            "tests/unit/services/transfers/test_accepting.py::test_each_request_sees_the_reservations_of_those_before_it",
        ),
    ),
    Mutant(
        "payment from another user's account",
        "core/services/transfers/accepting.py",
        (("and payer.owner_id != request.submitted_by:", "and payer.owner_id is None:"),),
        (
            "tests/unit/services/transfers/test_accepting.py::test_the_bank_withdraws_from_any_account_and_a_customer_pays_only_from_their_own",
        ),
    ),
    Mutant(
        "the reservation leaked on cancel",
        "core/services/transfers/cancelling.py",
        (
            (
                "accounts.release(connection, terms.from_account_id, terms.amount)",
                "pass",
            ),
        ),
        (
            "tests/unit/services/transfers/test_cancelling.py::test_the_submitter_cancels_a_pending_transfer_and_its_funds_are_released",
        ),
        quick=True,
    ),
    # --- batches ---
    Mutant(
        "an atomic batch split between two units of work",
        "core/services/transfers/settlement.py",
        (("    if atomic and atomic[-1][1] > (last :=", "    if atomic and 0 > (last :="),),
        ("tests/unit/services/transfers/test_batches.py",),
        quick=True,
    ),
    Mutant(
        "an atomic batch that fails leaves its legs behind",
        "core/domain/ledger.py",
        (("        del self.settlement.legs[leg_count:]\n", ""),),
        ("tests/unit/test_ledger.py",),
    ),
    Mutant(
        "a transfer of an atomic batch cancelled alone",
        "core/services/transfers/cancelling.py",
        (("    if batches.is_atomic(connection, transfer.sequence):", "    if False:"),),
        ("tests/api/routes/test_batches.py",),
    ),
    Mutant(
        "a batch without its key",
        "core/services/transfers/batches.py",
        (("line if acceptance.first_sequence else _with_key(line, request)", "line"),),
        ("tests/api/routes/test_batches.py",),
    ),
    Mutant(
        "an atomic batch accepted in part",
        "core/services/transfers/batches.py",
        (("            raise _at_line(placed, index)\n", "            lines.append(placed.code)\n"),),
        ("tests/api/routes/test_batches.py",),
    ),
    # --- verification ---
    Mutant(
        "settlement continued although the ledger does not verify",
        "core/services/verification/kept.py",
        (("    if rows.newest_breaches(connection):\n", "    if False:\n"),),
        ("tests/unit/services/verification/test_halting.py",),
        quick=True,
    ),
    Mutant(
        "a chain continued after its end was cut off",
        "core/services/verification/kept.py",
        (("head.next_leg_id == following == numbered", "following == numbered"),),
        ("tests/unit/services/verification/test_halting.py",),
    ),
    Mutant(
        "a breach rolled back together with the cancellation that found it",
        "api/runtime/intake.py",
        (("            keep_breach(connection, error)\n", "            pass\n"),),
        ("tests/api/test_halting.py",),
    ),
    Mutant(
        "an ending left out of its block",
        "core/services/transfers/settlement.py",
        (("    unit.sealer.add_endings(endings)\n", ""),),
        ("tests/unit/services/verification/test_blocks.py",),
    ),
    Mutant(
        "a block that does not name the one before it",
        "core/domain/blocks.py",
        (("before = previous.hash if previous else NO_HASH", "before = NO_HASH"),),
        ("tests/unit/services/verification/test_blocks.py",),
    ),
    Mutant(
        "any signature accepted as the bank's",
        "core/security/anchor_key.py",
        (
            ("anchor.public_key == public_key and ", ""),
            ("has_signed(public_key,", "has_signed(anchor.public_key,"),
        ),
        ("tests/unit/services/verification/test_anchors.py",),
    ),
    # --- keys ---
    Mutant(
        "a key not scoped to its user",
        "core/storage/sqlite/statements.py",
        (
            (
                "SELECT t.idempotency_key, t.submitted_by, t.fingerprint",
                "SELECT t.idempotency_key, wanted.column2, t.fingerprint",
            ),
            (" AND t.submitted_by = wanted.column2\n", "\n"),
        ),
        ("tests/unit/services/transfers/test_idempotency.py::test_a_key_of_another_user_is_a_new_one",),
        quick=True,
    ),
    Mutant(
        "a key pruned after a year",
        "core/storage/transfers.py",
        (
            ("from core.clock import to_datetime\n", "from core.clock import now_us, to_datetime\n"),
            ("*accepted in rows}", "*accepted in rows if accepted[8] > now_us() - 365 * 86_400_000_000}"),
        ),
        ("tests/unit/services/transfers/test_idempotency.py::test_a_key_is_bound_for_good",),
    ),
    Mutant(
        "a replay built from columns that change",
        "core/storage/sqlite/statements.py",
        (
            (
                "t.description, t.created_at, t.answer_version",
                (
                    "t.description, coalesce((SELECT ended_at FROM endings WHERE endings.id = t.id), t.created_at), "
                    "t.answer_version"
                ),
            ),
        ),
        ("tests/unit/services/transfers/test_idempotency.py::test_a_replay_is_the_same_in_any_status_of_the_transfer",),
        quick=True,
    ),
    Mutant(
        "another request under the same key replayed",
        "core/services/transfers/accepting.py",
        (("if fingerprint in (request.fingerprint, request.former_fingerprint):\n", "if fingerprint:\n"),),
        (
            "tests/unit/services/transfers/test_idempotency.py::test_a_key_with_another_request_is_rejected_in_the_same_group_and_later",
        ),
    ),
    # --- storage ---
    Mutant(
        "a deferred BEGIN",
        "core/storage/sqlite/connections.py",
        (('connection.exec_driver_sql("BEGIN IMMEDIATE")', 'connection.exec_driver_sql("BEGIN")'),),
        ("tests/unit/storage/test_engine.py::test_a_unit_of_work_locks_before_it_reads",),
        quick=True,
    ),
    Mutant(
        "a commit without waiting for the disk",
        "core/storage/sqlite/connections.py",
        (("PRAGMA synchronous=FULL", "PRAGMA synchronous=NORMAL"),),
        ("tests/unit/storage/test_engine.py::test_the_writer_commits_to_disk_and_checks_foreign_keys",),
    ),
    Mutant(
        "a commit lost in a power cut",
        "core/storage/sqlite/connections.py",
        (("PRAGMA synchronous=FULL", "PRAGMA synchronous=NORMAL"),),
        ("tests/faults/test_power.py::test_power_cut_loses_nothing_that_a_client_was_told",),
    ),
    Mutant(
        "a migration in many transactions",
        "core/storage/sqlite/migrating.py",
        (('("BEGIN IMMEDIATE")', '("SELECT 1")'), ('("COMMIT")', '("SELECT 1")')),
        ("tests/faults/test_every_call.py::test_sampled_faults_of_a_migration_leave_a_state_that_it_commits",),
    ),
    Mutant(
        "a migration that begins again after an interruption",
        "migrations/versions/0017_transfers_never_change.py",
        (("    done, of = _number(connection, move.moved), _number", "    done, of = 0, _number"),),
        (
            "tests/unit/storage/long_migrations/test_interruptions.py::test_upgrade_that_fails_after_each_commit_continues_after_it",
        ),
        quick=True,
    ),
    Mutant(
        "no turnstile",
        "core/storage/sqlite/engine.py",
        (("with self.turnstile.turn(), self.writer", "with self.writer"),),
        ("tests/unit/storage/test_unit_of_work.py::test_it_has_the_turn_from_beginning_to_end",),
        quick=True,
    ),
    Mutant(
        "writes to the schema of another version",
        "core/storage/unit_of_work.py",
        (("            _require_schema(database, connection)  # inside", "            # inside"),),
        ("tests/unit/storage/test_unit_of_work.py::test_a_writer_whose_schema_changes_while_it_waits_writes_nothing",),
        quick=True,
    ),
    Mutant(
        "a migration while a worker settles",
        "core/processes/database_hold.py",
        (("        if not lock.take(what):\n", "        if not lock.take(what) and False:\n"),),
        ("tests/unit/processes/test_run.py::test_a_running_settlement_worker_is_named_and_prevents_a_migration",),
    ),
    Mutant(
        "no fence after a failed commit",
        "core/storage/unit_of_work.py",
        (("if not database.undo_commit(connection):", "if connection is None:"),),
        ("tests/unit/storage/test_unit_of_work.py::test_a_failed_commit_is_unavailable_once_a_fence_has_passed",),
        quick=True,
    ),
    Mutant(
        "a failed fence treated as a success",
        "core/storage/sqlite/commits.py",
        (("        return False\n", "        return True\n"),),
        ("tests/unit/storage/test_unit_of_work.py::test_a_failed_commit_is_unknown_if_the_fence_fails_too",),
    ),
    # --- throttles: they protect the passwords that protect the money ---
    Mutant(
        "a throttle that counts a try only after it fails, so that a hundred concurrent tries count once",
        "api/throttling/attempt.lua",
        (("  if waits == 0 then\n", "  if false then\n"),),
        ("tests/api/throttling/test_tally.py::TestATally::test_counts_concurrent_tries",),
    ),
    Mutant(
        "a throttle that one client's success resets for others",
        "core/domain/throttles.py",
        (("0 if record.tried_at == tried_at else record.tried_at", "0"),),
        (("tests/api/throttling/test_tally.py::TestPatience::test_does_not_undo_the_wait_for_a_later_try"),),
    ),
    Mutant(
        "an address's throttle that a success resets",
        "api/throttling/guesses.py",
        (("self.guess in (Guess.LOG_IN_ACCOUNT, Guess.LOG_IN_DEVICE, Guess.PASSWORD)", "True"),),
        (
            (
                "tests/api/throttling/test_rates_and_guesses.py::TestLoggingIn"
                "::test_forgets_the_failures_of_an_account_after_success_but_not_those_of_the_address"
            ),
        ),
    ),
    Mutant(
        "a throttle that waits for an unreachable queue server at every request",
        "api/throttling/tally.py",
        (("        if time < self._ask_again_at:\n            return None\n", ""),),
        ("tests/api/throttling/test_tally.py::TestWithoutTheServer::test_each_process_counts_alone_at_once",),
    ),
    Mutant(
        "a throttle that IPv6 clients evade",
        "api/throttling/rates.py",
        (("IPv6Network((parsed, 64)", "IPv6Network((parsed, 128)"),),
        ("tests/api/throttling/test_rates_and_guesses.py::TestAClient",),
    ),
    # --- access ---
    Mutant(
        "a transfer accepted from a user who lost access while waiting for the turn",
        "api/runtime/intake.py",
        (
            (
                "        changed = users.changed_since(connection, {job.by for job in orders if job.by})\n",
                "        changed = set()\n",
            ),
        ),
        ("tests/api/test_access_in_turn.py::test_a_user_with_access_is_served_next_to_one_who_lost_it",),
    ),
    Mutant(
        "a payee sees a transfer before it is completed",
        "core/domain/transfers.py",
        (("self.status is TransferStatus.COMPLETED and self.payee_owner_id", "self.payee_owner_id"),),
        ("tests/api/test_access.py::TestAPayee::test_sees_a_transfer_only_once_it_is_completed",),
    ),
    Mutant(
        "a trailer accepted as a header",
        "api/server/connections.py",
        (("        if self._is_in_head:\n", "        if True:\n"),),
        ("tests/api/server/test_connections.py::TestABody::test_cannot_add_headers_in_a_trailer",),
    ),
)
