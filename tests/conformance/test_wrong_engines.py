"""Every sentence about an engine can fail: for each there is an engine that breaks it."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from core.storage.engines import Engine
from tests import wrong_engines as wrong
from tests.conformance import test_engine as sentences
from tests.engines import NewSite

BREAKS: dict[type[wrong.Wrapped], tuple[str, ...]] = {
    wrong.CommitsAtOnce: ("test_what_a_unit_of_work_wrote_is_seen_by_all_once_it_has_ended",),
    wrong.KeepsWhatFailed: ("test_of_a_unit_of_work_that_fails_nothing_is_left",),
    wrong.UndoesTheWholeForAPart: ("test_a_part_of_a_unit_of_work_can_fail_alone",),
    wrong.HidesAFailedCommit: ("test_a_commit_that_fails_leaves_nothing",),
    wrong.DoubtsEachFailedCommit: ("test_a_commit_that_fails_leaves_nothing",),
    wrong.TrustsAFailedCommit: ("test_a_commit_that_fails_and_cannot_be_undone_has_an_unknown_outcome",),
    wrong.IgnoresTheSchema: ("test_under_another_schema_nothing_is_written",),
    wrong.ReadsBeforeItsTurn: (
        "test_in_one_lane_units_of_work_take_turns",
        "test_a_unit_of_work_sees_what_was_committed_while_it_waited_for_its_lane",
    ),
    wrong.NeverLetsGo: ("test_units_of_work_in_different_lanes_never_wait_for_each_other_for_ever",),
    wrong.NoticesNobody: ("test_an_engine_tells_that_somebody_waits_for_a_lane",),
    wrong.KeepsNumbers: ("test_a_unit_of_work_that_fails_gives_its_numbers_back",),
    wrong.LosesTimes: ("test_times_never_go_back_although_the_clock_does",),
    wrong.LosesTheWatermark: ("test_the_watermark_follows_the_oldest_pending_transfer",),
    wrong.LosesKeys: ("test_a_key_is_accepted_once_by_however_many_processes",),
    wrong.LosesEndings: ("test_a_transfer_ends_once",),
    wrong.LosesLinks: (
        "test_the_chain_of_an_account_has_all_its_legs_newest_first",
        "test_transfers_are_accepted_while_others_are_settled_and_all_adds_up",
    ),
    wrong.RoundsLargeSums: ("test_sums_beyond_64_bits_are_exact",),
    wrong.LosesClosedMonths: ("test_no_leg_is_posted_in_a_month_that_is_closed",),
    wrong.HasNoTriggers: (
        "test_what_the_ledger_says_never_changes",
        "test_an_engine_has_no_complaints_about_itself",
    ),
    wrong.ReadsTheLatest: (
        "test_a_snapshot_stays_as_it_is_while_others_write",
        "test_every_snapshot_has_all_numbers_up_to_its_newest",
    ),
    wrong.KeepsItsSnapshots: ("test_a_verification_reads_in_snapshots_that_are_bounded",),
    wrong.IsAlwaysBlocked: ("test_a_verification_reads_in_snapshots_that_are_bounded",),
    wrong.LetsReadersWrite: ("test_what_only_reads_cannot_write",),
    wrong.ChecksNothing: ("test_a_whole_ledger_verifies_and_a_broken_one_does_not",),
    wrong.Complains: ("test_an_engine_has_no_complaints_about_itself",),
    wrong.KnowsEverybody: ("test_a_glance_tells_which_user_a_token_names",),
    wrong.CallsAllEnded: ("test_a_glance_tells_which_transfers_have_ended",),
    wrong.NoticesNoChange: ("test_a_glance_tells_which_transfers_have_ended",),
    wrong.SeesNothingPending: ("test_a_glance_tells_what_is_pending",),
    wrong.HasManySettlers: ("test_there_is_one_settler",),
}
"""Each wrong engine, and the sentences that it breaks."""

SENTENCES: dict[str, Callable[..., Any]] = {
    name: function for name, function in vars(sentences).items() if name.startswith("test_")
}


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [pytest.param(engine, name, id=f"{engine.__name__}-{name}") for engine, names in BREAKS.items() for name in names],
)
async def test_a_wrong_engine_breaks_the_sentence(
    new_site: NewSite, monkeypatch: pytest.MonkeyPatch, engine: Callable[[Engine], Engine], sentence: str
) -> None:
    function = SENTENCES[sentence]
    monkeypatch.setattr(sentences, "PATIENCE", 1.0)
    given = {"site": new_site(engine), "monkeypatch": monkeypatch, "table": "transfers"}
    wanted = {name: given[name] for name in inspect.signature(function).parameters}
    with pytest.raises((Exception, pytest.fail.Exception)) as broken:
        if inspect.iscoroutinefunction(function):
            await function(**wanted)
        else:
            function(**wanted)
    assert not isinstance(broken.value, AttributeError | TypeError | NameError), "the wrapper itself is broken"


def test_every_sentence_is_broken_by_an_engine() -> None:
    broken = {name for names in BREAKS.values() for name in names}
    assert broken == set(SENTENCES)


def test_every_wrong_engine_is_used() -> None:
    bases = {wrong.Wrapped, wrong.WrongWriting, wrong.WrongReading, wrong.WrongGlance, wrong.AfterEachCommit}
    engines = {
        item
        for name, item in vars(wrong).items()
        if inspect.isclass(item) and issubclass(item, wrong.Wrapped) and not name.startswith("_")
    }
    assert engines - bases == set(BREAKS)
