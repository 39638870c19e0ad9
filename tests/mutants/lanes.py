"""Bugs in what accepting and settling hand on: numbers, times, the watermark, and what is reserved and released."""

from tests.mutants.mutant import Mutant

_ACCEPTING = "tests/unit/services/transfers/test_accepting.py"
_LANES = "tests/unit/services/transfers/test_lanes.py"
_CANCELLING = "tests/unit/services/transfers/test_cancelling.py"
_RESERVATIONS = "tests/unit/services/transfers/test_reservations.py"
_SETTLEMENT = "tests/unit/services/transfers/test_settlement.py"

LANES = (
    Mutant(
        "the sequence of the next transfer not given on",
        "core/services/transfers/accepting.py",
        (("        lanes.accepted(self._connection, next_transfer=self._sequence, accepted_at=self._now)\n", ""),),
        (f"{_ACCEPTING}::test_sequences_increase_by_one_in_the_order_of_the_group",),
        quick=True,
    ),
    Mutant(
        "the number of the next leg not given on",
        "core/services/transfers/settlement.py",
        (("next_leg=unit.next_leg, posted_at=", "next_leg=unit.lanes.next_leg, posted_at="),),
        (f"{_SETTLEMENT}::test_chains_are_whole_across_chunks_and_units_of_work",),
    ),
    Mutant(
        "a leg's number skipped where a transfer is cancelled",
        "core/services/transfers/cancelling.py",
        (("next_leg=before.next_leg,", "next_leg=before.next_leg + 1,"),),
        (f"{_CANCELLING}::test_the_submitter_cancels_a_pending_transfer_and_its_funds_are_released",),
    ),
    Mutant(
        "the watermark one too high",
        "core/storage/lanes.py",
        (("        front = pending - 1\n", "        front = pending\n"),),
        (f"{_SETTLEMENT}::test_a_unit_of_work_has_a_maximum_of_transfers_and_a_smaller_one_is_the_last",),
        quick=True,
    ),
    Mutant(
        "an older transfer passed over when a later one is cancelled",
        "core/services/transfers/cancelling.py",
        (("through=before.watermark)", "through=transfer.sequence)"),),
        (f"{_CANCELLING}::test_the_submitter_cancels_a_pending_transfer_and_its_funds_are_released",),
    ),
    Mutant(
        "the watermark left behind transfers that were cancelled",
        "core/storage/lanes.py",
        (("    front = before.next_transfer - 1\n", "    front = through\n"),),
        (f"{_LANES}::test_cancelling_the_only_pending_transfer_moves_the_watermark_to_the_end",),
    ),
    Mutant(
        "the time of the newest transfer not carried on",
        "core/storage/lanes.py",
        (("SET next_id = :next, newest_at = :newest_at WHERE", "SET next_id = :next WHERE"),),
        (f"{_ACCEPTING}::test_times_never_decrease_even_if_the_clock_goes_back",),
    ),
    Mutant(
        "the time of the newest leg not carried on",
        "core/storage/lanes.py",
        (("SET next_id = :next, newest_at = :newest_at, watermark", "SET next_id = :next, watermark"),),
        (f"{_SETTLEMENT}::test_no_leg_is_posted_before_its_predecessor_even_if_the_clock_goes_back",),
    ),
    Mutant(
        "settled without the time of the newest transfer",
        "core/services/transfers/settlement.py",
        (("max(now_us(), found.newest_at, closed,", "max(now_us(), found.posted_at, closed,"),),
        (f"{_SETTLEMENT}::test_no_transfer_ends_before_it_began_even_if_the_clock_goes_back",),
    ),
    Mutant(
        "cancelled without the time of its acceptance",
        "core/services/transfers/cancelling.py",
        (("max(now_us(), to_us(transfer.created_at))", "now_us()"),),
        (f"{_CANCELLING}::test_a_transfer_never_ends_before_it_began_even_if_the_clock_goes_back",),
    ),
    Mutant(
        "the released sum not carried into the high half",
        "core/storage/accounts.py",
        (('    f"released_high = released_high + (released_low + :amount) / {HALF}, "\n', ""),),
        (f"{_RESERVATIONS}::test_a_cancellation_releases_funds_that_no_longer_fit_the_low_half",),
    ),
    Mutant(
        "a cancelled transfer still counted as pending",
        "core/storage/accounts.py",
        (('"UPDATE accounts SET released_count = released_count + 1, "', '"UPDATE accounts SET "'),),
        (f"{_RESERVATIONS}::test_a_cancellation_releases_funds_that_no_longer_fit_the_low_half",),
    ),
    Mutant(
        "lanes that do not go on not reported",
        "core/services/verification/__init__.py",
        (("    if numbers != expected:\n", "    if False:\n"),),
        ("tests/unit/services/verification/test_verification.py",),
    ),
    Mutant(
        "an ending without its transfer not reported",
        "core/services/verification/__init__.py",
        (("    if extent.newest_ending > extent.newest:\n", "    if False:\n"),),
        ("tests/unit/services/verification/test_verification.py",),
    ),
    Mutant(
        "settled although the lane numbers legs otherwise than the rows",
        "core/services/verification/kept.py",
        (
            ("head.next_leg_id == following == numbered", "head.next_leg_id == following"),
            ("    if numbered != following:\n", "    if False:\n"),
        ),
        ("tests/unit/services/verification/test_halting.py",),
    ),
)
