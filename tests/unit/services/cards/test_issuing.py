"""Cards: numbers, expiry, sealing, and the status changes that the services allow."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.clock import now_us, to_datetime
from core.domain.accounts import AccountError
from core.domain.cards import (
    TRANSITIONS,
    CardError,
    CardStatus,
    CardType,
    _luhn_sum,
    card_number,
    expires_on,
    expiry_after,
    is_card_number,
    masked_number,
    shown_expiry,
    without_card_numbers,
)
from core.domain.errors import ErrorCode, Part, Refusal
from core.security.card_vault import CardKeyError, CardKeys, CardVault
from core.security.secrets import Secrets
from core.services import accounts
from core.services.cards import issuing
from core.services.cards.issuing import IssuedCard
from core.settings import Settings, load_settings
from core.storage import cards as stored
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, Person, author, bank_of_two, close, freeze, issue_card, rows, set_account

SECRET, ANOTHER = "s" * 32, "t" * 32
SERIALS = st.integers(0, 10**9 - 1)
NUMBERS = SERIALS.map(card_number)
ACTIVE, FROZEN, CANCELLED = CardStatus


# --- numbers -----------------------------------------------------------------------------------------------------


class TestANumber:
    @pytest.mark.parametrize(
        ("serial", "number"),
        [(0, "9999990000000006"), (42, "9999990000000428"), (123_456_789, "9999991234567893"),
         (10**9 - 1, "9999999999999995")],
    )  # fmt: skip
    def test_is_the_bin_nine_digits_and_a_check_digit(self, serial: int, number: str) -> None:
        assert card_number(serial) == number
        assert is_card_number(number)

    def test_matches_the_worked_example_of_the_luhn_method(self) -> None:
        assert _luhn_sum("79927398713") == 70  # Luhn's own example of a correct number

    @pytest.mark.parametrize("serial", [-1, 10**9])
    def test_rejects_a_serial_out_of_range(self, serial: int) -> None:
        with pytest.raises(ValueError, match="out of range"):
            card_number(serial)

    @pytest.mark.parametrize(
        "text",
        ["", "9999990000000005", "999999000000000", "99999900000000066", "4111111111111111", "999999000000000٦",
         "9999990000000006\n", " 9999990000000006", "9999 9900 0000 0006"],
    )  # fmt: skip
    def test_is_distinguished_from_other_text(self, text: str) -> None:
        assert not is_card_number(text)

    @given(NUMBERS, st.integers(6, 15), st.integers(1, 9))
    def test_with_one_digit_changed_is_invalid(self, number: str, place: int, by: int) -> None:
        wrong = number[:place] + str((int(number[place]) + by) % 10) + number[place + 1 :]
        assert not is_card_number(wrong)

    @given(NUMBERS, st.integers(6, 14))
    def test_with_two_neighbours_swapped_is_invalid_except_for_09_and_90(self, number: str, place: int) -> None:
        pair = number[place : place + 2]
        assume(pair[0] != pair[1])
        wrong = number[:place] + pair[::-1] + number[place + 2 :]
        assert is_card_number(wrong) == (pair in ("09", "90"))

    @given(NUMBERS)
    def test_is_masked_but_for_its_first_six_and_last_four_digits(self, number: str) -> None:
        assert masked_number(number[-4:]) == f"999999******{number[-4:]}"
        assert without_card_numbers(f"a{number}b {number}") == f"a{masked_number(number[-4:])}b " + masked_number(
            number[-4:]
        )

    def test_is_not_found_in_text_without_one(self) -> None:
        for text in ("", "order-66", "999999", "01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1f"):
            assert without_card_numbers(text) == text


class TestAnExpiry:
    @pytest.mark.parametrize(
        ("today", "years", "expiry", "last_day", "shown"),
        [
            (date(2026, 11, 24), 4, "2030-11", date(2030, 11, 30), "11/30"),
            (date(2024, 2, 29), 4, "2028-02", date(2028, 2, 29), "02/28"),
            (date(2024, 2, 29), 3, "2027-02", date(2027, 2, 28), "02/27"),
            (date(2026, 12, 31), 1, "2027-12", date(2027, 12, 31), "12/27"),
            (date(2096, 1, 1), 4, "2100-01", date(2100, 1, 31), "01/00"),
        ],
    )
    def test_is_the_last_day_of_its_month_some_years_ahead(
        self, today: date, years: int, expiry: str, last_day: date, shown: str
    ) -> None:
        assert expiry_after(today, years) == expiry
        assert expires_on(expiry) == last_day
        assert shown_expiry(expiry) == shown


# --- sealing, digests and derivation ---


class TestSealing:
    ONE = CardKeys({1: SECRET})

    @given(NUMBERS, st.uuids())
    def test_is_undone_with_the_key_and_the_card_id(self, number: str, card: UUID) -> None:
        sealed = self.ONE.seal(number, card)
        assert len(sealed) == 44
        assert number.encode() not in sealed
        assert self.ONE.open(sealed, 1, card) == number

    @given(NUMBERS, st.uuids(), st.uuids())
    def test_is_not_undone_under_another_card_id(self, number: str, card: UUID, other: UUID) -> None:
        assume(card != other)
        with pytest.raises(CardKeyError, match="sealed with another secret"):
            self.ONE.open(self.ONE.seal(number, card), 1, other)

    @pytest.mark.parametrize("secret", [ANOTHER, SECRET + "s"])
    def test_is_not_undone_with_another_secret(self, secret: str) -> None:
        card = uuid4()
        with pytest.raises(CardKeyError, match=f"card {card} cannot be opened with card key version 1"):
            CardKeys({1: secret}).open(self.ONE.seal(card_number(1), card), 1, card)

    def test_is_not_undone_with_an_unknown_version(self) -> None:
        with pytest.raises(CardKeyError, match="key version 7, which is not among"):
            self.ONE.open(b"s" * 44, 7, uuid4())

    @pytest.mark.parametrize("place", [0, 11, 12, 27, 28, 43])
    def test_detects_a_changed_byte(self, place: int) -> None:
        card = uuid4()
        sealed = bytearray(self.ONE.seal(card_number(1), card))
        sealed[place] ^= 1
        with pytest.raises(CardKeyError):
            self.ONE.open(bytes(sealed), 1, card)

    def test_never_returns_the_same_bytes_twice(self) -> None:
        card = uuid4()
        assert len({self.ONE.seal(card_number(1), card) for _ in range(10)}) == 10

    def test_uses_the_newest_key_and_opens_with_older_ones(self) -> None:
        both, card = CardKeys({2: ANOTHER, 1: SECRET}), uuid4()
        assert both.newest == 2
        assert CardKeys({2: ANOTHER}).open(both.seal(card_number(1), card), 2, card) == card_number(1)
        assert both.open(self.ONE.seal(card_number(1), card), 1, card) == card_number(1)


@pytest.fixture
def vault(settings: Settings) -> CardVault:
    """The vault of a running API, with new keys."""
    return CardVault(Secrets(settings))


class TestTheVault:
    def test_finds_a_number_again_and_distinguishes_it_from_others(self, vault: CardVault) -> None:
        assert vault.index(card_number(1)) == vault.index(card_number(1))
        assert len({vault.index(card_number(serial)) for serial in range(100)}) == 100
        assert len(vault.index(card_number(1))) == 32

    def test_derives_a_cvc_from_number_and_expiry_and_derives_it_again_to_check_it(self, vault: CardVault) -> None:
        number = card_number(1)
        cvc = vault.cvc(number, "2030-11")
        assert len(cvc) == 3
        assert cvc.isdigit()
        assert vault.is_cvc(number, "2030-11", cvc)
        assert len({vault.cvc(card_number(serial), "2030-11") for serial in range(50)}) > 25
        assert len({vault.cvc(number, f"20{year}-11") for year in range(30, 80)}) > 25
        for wrong in ("", f"{(int(cvc) + 1) % 1000:03d}", f" {cvc}", "\ud800", "١٢٣"):
            assert not vault.is_cvc(number, "2030-11", wrong)

    def test_has_another_index_and_other_cvcs_under_another_index_key(
        self, vault: CardVault, settings: Settings
    ) -> None:
        other = CardVault(Secrets(load_settings(_env_file=None, data_dir=settings.data_dir, card_index_key=ANOTHER)))
        assert other.index(card_number(1)) != vault.index(card_number(1))
        serials = range(20)
        assert [other.cvc(card_number(serial), "2030-11") for serial in serials] != [
            vault.cvc(card_number(serial), "2030-11") for serial in serials
        ]


# --- services ---


@dataclass(frozen=True, slots=True)
class Case:
    """Ada, her card, and the operations on it."""

    database: Database
    vault: CardVault
    bank: Bank
    card: IssuedCard

    @property
    def row(self) -> dict[str, Any]:
        return rows(self.database, "SELECT * FROM cards WHERE public_id = ?", self.card.view.id.bytes)[0]

    @property
    def status(self) -> CardStatus:
        with unit_of_work(self.database) as connection:
            view = stored.read_owned(connection, self.bank.ada.id, self.card.view.id)
        assert view is not None
        return view.status

    def do(self, act: Any, who: Person | None = None, card: UUID | None = None) -> str:
        """Run an operation on the card. Returns the card's new status, or the code of the refusal."""
        person = who or self.bank.ada
        try:
            with unit_of_work(self.database) as connection:
                act(connection, user_id=person.id, card_id=card or self.card.view.id)
        except Refusal as refusal:
            return refusal.code
        return self.status

    def issue(self, most: int = 20, who: Person | None = None, most_ever: int = 2000) -> str:
        """Issue another card. Returns its status, or the code of the refusal."""
        try:
            issued = issue_card(
                self.database, self.vault, who or self.bank.ada, self.bank.ada_account, most=most, most_ever=most_ever
            )
        except Refusal as refusal:
            return refusal.code
        return issued.view.status


@pytest.fixture
def case(database: Database, vault: CardVault) -> Case:
    bank = bank_of_two(database)
    return Case(database, vault, bank, issue_card(database, vault, bank.ada, bank.ada_account))


class TestIssuing:
    def test_stores_a_sealed_number_its_index_and_its_last_digits(self, case: Case) -> None:
        card, row = case.card, case.row
        assert is_card_number(card.number)
        assert row["last4"] == card.number[-4:] == card.view.last4
        assert row["number_index"] == case.vault.index(card.number)
        assert case.vault.keys().open(row["sealed_number"], row["key_version"], card.view.id) == card.number
        assert case.vault.is_cvc(card.number, row["expiry"], card.cvc)
        assert row["expiry"] == expiry_after(to_datetime(now_us()).date(), 4)

    def test_has_no_column_for_a_cvc_or_a_clear_number(self, case: Case) -> None:
        assert case.row.keys() == {
            "id", "public_id", "owner_id", "account_id", "type", "status", "last4", "expiry", "sealed_number",
            "key_version", "number_index", "created_at", "cancelled_at",
        }  # fmt: skip

    def test_is_recorded_as_revealed_to_the_customer(self, case: Case) -> None:
        (entry,) = rows(case.database, "SELECT author_id, action, object_id, details FROM audit_entries")
        assert entry == {
            "author_id": case.bank.ada.id,
            "action": "card_revealed",
            "object_id": case.card.view.id.bytes,
            "details": f'{{"account_id": "{case.bank.ada_account}", "last4": "{case.card.number[-4:]}"}}',
        }

    def test_that_is_rolled_back_is_not_recorded(self, case: Case) -> None:
        with pytest.raises(KeyError), unit_of_work(case.database) as connection:
            issuing.issue(
                connection,
                case.vault,
                author(case.bank.ada),
                account_id=case.bank.ada_account,
                kind=CardType.CREDIT,
                most=20,
                most_ever=2000,
                years=4,
            )
            raise KeyError
        assert len(rows(case.database, "SELECT 1 FROM cards")) == 1
        assert len(rows(case.database, "SELECT 1 FROM audit_entries")) == 1

    def test_draws_again_when_a_number_is_taken(self, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        taken = int(case.card.number[6:15])
        drawn: Iterator[int] = iter([taken, taken, (taken + 1) % 10**9])
        monkeypatch.setattr(issuing.secrets, "randbelow", lambda bound: next(drawn))
        again = issue_card(case.database, case.vault, case.bank.ada, case.bank.ada_account)
        assert again.number == card_number((taken + 1) % 10**9)

    def test_hides_number_and_cvc_when_printed(self, case: Case) -> None:
        assert case.card.number not in repr(case.card)
        assert "cvc" not in repr(case.card)

    def test_needs_an_account_of_the_caller(self, case: Case) -> None:
        with pytest.raises(Refusal) as refusal:
            issue_card(case.database, case.vault, case.bank.bob, case.bank.ada_account)
        assert (refusal.value.code, refusal.value.about) == (AccountError.NOT_FOUND, Part.ACCOUNT)

    @pytest.mark.parametrize("scope", ["debit", "all"])
    def test_needs_an_account_that_is_not_frozen(self, case: Case, scope: str) -> None:
        freeze(case.database, case.bank.ada_account, scope)
        assert case.issue() == AccountError.FROZEN

    def test_needs_an_open_account(self, case: Case) -> None:
        close(case.database, case.bank.ada_account)
        assert case.issue() == AccountError.CLOSED

    def test_stops_at_the_limit_and_cancelled_cards_do_not_count(self, case: Case) -> None:
        assert case.issue(most=2) == ACTIVE
        case.do(issuing.freeze)
        assert case.issue(most=2) == CardError.TOO_MANY
        case.do(issuing.cancel)
        assert case.issue(most=2) == ACTIVE
        assert case.issue(most=2) == CardError.TOO_MANY

    def test_stops_when_a_user_was_issued_the_maximum_and_cancelled_cards_count(self, case: Case) -> None:
        case.do(issuing.cancel)
        assert case.issue(most_ever=2) == ACTIVE
        assert case.issue(most_ever=2) == CardError.TOO_MANY_EVER
        assert case.issue(most_ever=3) == ACTIVE

    def test_counts_only_the_cards_of_the_same_user(self, case: Case) -> None:
        issue_card(case.database, case.vault, case.bank.bob, case.bank.bob_account, most_ever=1)


TO = {ACTIVE: issuing.unfreeze, FROZEN: issuing.freeze, CANCELLED: issuing.cancel}


class TestStatuses:
    @pytest.mark.parametrize("wanted", CardStatus)
    @pytest.mark.parametrize("own", CardStatus)
    def test_change_as_the_table_allows(self, case: Case, own: CardStatus, wanted: CardStatus) -> None:
        case.do(TO[own])
        assert case.status is own
        done = case.do(TO[wanted])
        allowed = wanted is own or wanted in TRANSITIONS[own]
        assert done == (wanted if allowed else CardError.CANCELLED)
        assert case.status is (wanted if allowed else own)

    def test_are_final_only_when_cancelled(self) -> None:
        assert {status for status, ways in TRANSITIONS.items() if not ways} == {CANCELLED}
        assert TRANSITIONS[ACTIVE].keys() == {FROZEN, CANCELLED}
        assert TRANSITIONS[FROZEN].keys() == {ACTIVE, CANCELLED}

    def test_do_not_change_when_set_again(self, case: Case) -> None:
        for act in (issuing.unfreeze, issuing.freeze, issuing.cancel):
            case.do(act)
            before = case.row
            case.do(act)
            assert case.row == before

    def test_record_when_a_card_was_cancelled(self, case: Case) -> None:
        assert case.row["cancelled_at"] is None
        case.do(issuing.cancel)
        assert case.row["cancelled_at"] >= case.row["created_at"]

    @pytest.mark.parametrize("act", TO.values(), ids=[act.__name__ for act in TO.values()])
    def test_are_changed_by_the_owner_only(self, case: Case, act: Any) -> None:
        before = case.row
        assert case.do(act, who=case.bank.bob) == CardError.NOT_FOUND
        assert case.do(act, card=uuid4()) == CardError.NOT_FOUND
        assert case.row == before


@pytest.mark.parametrize("scope", ["debit", "all"])
class TestAFrozenAccount:
    @pytest.mark.parametrize(("own", "shown"), [(ACTIVE, FROZEN), (FROZEN, FROZEN), (CANCELLED, CANCELLED)])
    def test_freezes_its_cards_and_restores_them_later(
        self, case: Case, scope: str, own: CardStatus, shown: CardStatus
    ) -> None:
        case.do(TO[own])
        freeze(case.database, case.bank.ada_account, scope)
        assert case.status is shown
        set_account(case.database, case.bank.ada_account, status="active", freeze_scope=None)
        assert case.status is own

    @pytest.mark.parametrize(
        ("own", "refusal"),
        [(ACTIVE, AccountError.FROZEN), (FROZEN, AccountError.FROZEN), (CANCELLED, CardError.CANCELLED)],
    )
    def test_allows_no_card_to_be_unfrozen(self, case: Case, scope: str, own: CardStatus, refusal: ErrorCode) -> None:
        case.do(TO[own])
        freeze(case.database, case.bank.ada_account, scope)
        assert case.do(issuing.unfreeze) == refusal
        assert case.row["status"] == own

    def test_allows_its_cards_to_be_frozen_for_later_and_to_be_cancelled(self, case: Case, scope: str) -> None:
        freeze(case.database, case.bank.ada_account, scope)
        assert (case.do(issuing.freeze), case.row["status"]) == (FROZEN, FROZEN)
        assert case.do(issuing.cancel) == CANCELLED


class TestClosingAnAccount:
    def test_cancels_its_cards_and_no_others(self, case: Case) -> None:
        case.issue()
        case.do(issuing.freeze)
        bobs = issue_card(case.database, case.vault, case.bank.bob, case.bank.bob_account)
        with unit_of_work(case.database) as connection:
            accounts.close_account(connection, user_id=case.bank.ada.id, account_id=case.bank.ada_account)
        kept = rows(case.database, "SELECT public_id, status, cancelled_at FROM cards ORDER BY id")
        assert [row["status"] for row in kept] == [CANCELLED, CANCELLED, ACTIVE]
        assert kept[2]["public_id"] == bobs.view.id.bytes
        (account,) = rows(case.database, "SELECT closed_at FROM accounts WHERE status = 'closed'")
        assert {row["cancelled_at"] for row in kept[:2]} == {account["closed_at"]}

    def test_does_not_change_cards_that_were_cancelled_before(self, case: Case) -> None:
        case.do(issuing.cancel)
        before = case.row
        with unit_of_work(case.database) as connection:
            accounts.close_account(connection, user_id=case.bank.ada.id, account_id=case.bank.ada_account)
        assert case.row == before

    def test_that_is_rejected_does_not_change_the_cards(self, case: Case) -> None:
        freeze(case.database, case.bank.ada_account)
        with pytest.raises(Refusal), unit_of_work(case.database) as connection:
            accounts.close_account(connection, user_id=case.bank.ada.id, account_id=case.bank.ada_account)
        assert case.row["status"] == ACTIVE


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT 1 FROM cards WHERE owner_id = 1 AND id > 5 ORDER BY id LIMIT 5", "ix_cards_owner_id_id"),
        ("SELECT count(*) FROM cards WHERE account_id = 1 AND status <> 'cancelled'", "ix_cards_live"),
        ("SELECT min(key_version) FROM cards WHERE key_version > 1", "ix_cards_key_version"),
        ("SELECT 1 FROM cards WHERE key_version = 1 ORDER BY id LIMIT 5", "ix_cards_key_version"),
    ],
)
def test_every_query_of_many_cards_uses_an_index(database: Database, query: str, index: str) -> None:
    (plan,) = [row["detail"] for row in rows(database, f"EXPLAIN QUERY PLAN {query}")]
    assert f"INDEX {index}" in plan
