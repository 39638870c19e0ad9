"""Account numbers: their check digits, and the typing errors that these detect. Accounts: how they are opened."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession

from core.domain.accounts import NUMBER_DIGITS, AccountError, account_number, is_account_number
from core.domain.errors import Part, Refusal
from core.services import accounts
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import account_row, add_user, open_account, rows

SERIALS = st.integers(0, 10**NUMBER_DIGITS - 1)


def mod_97(number: str) -> int:
    """Check an IBAN digit by digit as ISO 13616 describes it, unlike the code."""
    remainder = 0
    for character in number[4:] + number[:4]:
        value = ord(character) - ord("A") + 10 if character.isalpha() else int(character)
        remainder = (remainder * (100 if value > 9 else 10) + value) % 97
    return remainder


@given(SERIALS)
def test_a_number_has_the_form_of_an_iban_with_an_unassigned_country(serial: int) -> None:
    number = account_number(serial)
    assert re.fullmatch(r"XG[0-9]{2}GIRO[0-9]{14}", number)
    assert int(number[8:]) == serial


@given(SERIALS)
def test_check_digits_are_valid_by_mod_97_and_between_02_and_98(serial: int) -> None:
    number = account_number(serial)
    assert mod_97(number) == 1
    assert 2 <= int(number[2:4]) <= 98
    assert is_account_number(number)


@given(SERIALS)
def test_every_mistyped_digit_is_detected(serial: int) -> None:
    number = account_number(serial)
    for place in [2, 3, *range(8, len(number))]:
        for digit in "0123456789":
            if digit != number[place]:
                assert not is_account_number(number[:place] + digit + number[place + 1 :])


@given(SERIALS)
def test_every_swapped_pair_of_neighbouring_digits_is_detected(serial: int) -> None:
    number = account_number(serial)
    for first, second in pairwise(range(8, len(number))):
        swapped = list(number)
        swapped[first], swapped[second] = swapped[second], swapped[first]
        assert is_account_number("".join(swapped)) == (number[first] == number[second])


@pytest.mark.parametrize("serial", [0, 1, 10**NUMBER_DIGITS - 1])
def test_the_first_and_the_last_serial_make_numbers(serial: int) -> None:
    assert is_account_number(account_number(serial))


@pytest.mark.parametrize("serial", [-1, 10**NUMBER_DIGITS, 10**30])
def test_a_serial_out_of_range_is_rejected(serial: int) -> None:
    with pytest.raises(ValueError, match="serial out of range"):
        account_number(serial)


GOOD = account_number(12345)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "XG",
        GOOD[:-1],
        GOOD + "0",
        GOOD.lower(),
        f" {GOOD}",
        f"{GOOD}\n",
        GOOD.replace("XG", "DE"),
        GOOD.replace("GIRO", "BANK"),
        GOOD.replace("GIRO", "GIR0"),
        GOOD[:8] + "²" + GOOD[9:],
        GOOD[:8] + "٣" + GOOD[9:],
        GOOD[:8] + "-" + GOOD[9:],
        "0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b",
        "DE89370400440532013000",
    ],
)
def test_any_other_text_is_not_an_account_number(text: str) -> None:
    assert not is_account_number(text)


# --- opening -----------------------------------------------------------------------------------------------------


def test_a_new_account_has_a_zero_balance(database: Database) -> None:
    with unit_of_work(database) as connection:
        account = open_account(connection, add_user(connection), "JPY")
    row = account_row(database, account)
    assert (row["kind"], row["status"], row["currency"]) == ("customer", "active", "JPY")
    assert (row["balance"], row["reserved"], row["overdraft_limit"]) == (0, 0, 0)
    assert (row["last_transaction_id"], row["last_transfer_id"], row["closed_at"]) == (None, None, None)
    assert is_account_number(row["account_number"])


def test_the_first_account_of_a_currency_also_opens_its_external_account(
    database: Database,
) -> None:
    with unit_of_work(database) as connection:
        owner = add_user(connection)
        for currency in ("USD", "USD", "EUR"):
            open_account(connection, owner, currency)
    externals = rows(database, "SELECT currency, owner_id, balance FROM accounts WHERE kind = 'external' ORDER BY id")
    assert externals == [{"currency": name, "owner_id": None, "balance": 0} for name in ("USD", "EUR")]


def test_an_account_beyond_the_limit_is_rejected(database: Database) -> None:
    with unit_of_work(database) as connection:
        owner, other = add_user(connection), add_user(connection)
        open_account(connection, owner, most=2)
        open_account(connection, owner, most=2)
        with pytest.raises(Refusal) as refused:
            open_account(connection, owner, most=2)
        open_account(connection, other, most=2)
    assert refused.value.code is AccountError.TOO_MANY


def test_a_number_that_is_taken_is_drawn_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    serials = iter([1, 2, 1, 2, 3])
    monkeypatch.setattr(accounts.secrets, "randbelow", lambda _most: next(serials))
    with unit_of_work(database) as connection:
        owner = add_user(connection)
        opened = [open_account(connection, owner) for _ in range(2)]
    numbers = [account_row(database, account)["account_number"] for account in opened]
    assert numbers == [account_number(2), account_number(3)]


async def test_another_users_account_reads_like_a_missing_one(database: Database, session: AsyncSession) -> None:
    with unit_of_work(database) as connection:
        owner, other = add_user(connection), add_user(connection)
        account = open_account(connection, owner)
    assert (await accounts.get(session, user_id=owner.id, account_id=account)).public_id == account
    for stranger, wanted in ((other.id, account), (owner.id, other.public_id)):
        with pytest.raises(Refusal) as refused:
            await accounts.get(session, user_id=stranger, account_id=wanted)
        assert (refused.value.code, refused.value.about) == (AccountError.NOT_FOUND, Part.ACCOUNT)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
async def test_pages_of_accounts_add_up_to_one_list_oldest_first(
    database: Database, session: AsyncSession, size: int
) -> None:
    with unit_of_work(database) as connection:
        owner, other = add_user(connection), add_user(connection)
        opened = []
        for _ in range(7):
            opened.append(open_account(connection, owner))
            open_account(connection, other)
    seen, after = [], 0
    while page := await accounts.list_for_user(session, user_id=owner.id, after_id=after, offset=0, limit=size):
        seen += [account.public_id for account in page]
        after = page[-1].id
    assert seen == opened
    rest = await accounts.list_for_user(session, user_id=owner.id, after_id=0, offset=size, limit=100)
    assert [account.public_id for account in rest] == opened[size:]
