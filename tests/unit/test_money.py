"""Currencies compared with the ISO 4217 list of an independent package, and amounts in a currency's decimals."""

from decimal import Decimal

import iso4217
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.money import (
    CUSTOMER_BALANCE_BOUND,
    EXPONENTS,
    EXTERNAL_BALANCE_BOUND,
    MAX_AMOUNT,
    decimal_string,
)

ISO_EXPONENTS = {currency.code: currency.exponent for currency in iso4217.Currency if currency.exponent is not None}


def test_the_currencies_are_those_of_iso_4217_that_have_an_exponent() -> None:
    assert set(EXPONENTS) == set(ISO_EXPONENTS)


def test_every_exponent_is_the_one_of_iso_4217() -> None:
    assert EXPONENTS == ISO_EXPONENTS


@pytest.mark.parametrize("code", ["XAU", "XAG", "XDR", "XTS", "XXX"])
def test_a_code_without_an_exponent_is_not_a_currency(code: str) -> None:
    assert code not in EXPONENTS


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [
        (0, "JPY", "0"),
        (1, "JPY", "1"),
        (1050, "JPY", "1050"),
        (-1050, "JPY", "-1050"),
        (0, "USD", "0.00"),
        (1, "USD", "0.01"),
        (-1, "USD", "-0.01"),
        (10, "USD", "0.10"),
        (99, "USD", "0.99"),
        (100, "USD", "1.00"),
        (1050, "USD", "10.50"),
        (-1050, "USD", "-10.50"),
        (0, "BHD", "0.000"),
        (5, "BHD", "0.005"),
        (1050, "BHD", "1.050"),
        (-999, "BHD", "-0.999"),
        (1, "CLF", "0.0001"),
        (10_000, "CLF", "1.0000"),
        (-12_345, "CLF", "-1.2345"),
        (MAX_AMOUNT, "USD", "10000000000000.00"),
        (CUSTOMER_BALANCE_BOUND, "JPY", "9000000000000000"),
        (-EXTERNAL_BALANCE_BOUND, "BHD", "-9000000000000000.000"),
    ],
)
def test_an_amount_is_written_with_the_decimals_of_its_currency(amount: int, currency: str, written: str) -> None:
    assert decimal_string(amount, currency) == written


def test_an_amount_of_an_unknown_currency_cannot_be_written() -> None:
    with pytest.raises(KeyError):
        decimal_string(1, "XAU")


@given(amount=st.integers(-EXTERNAL_BALANCE_BOUND, EXTERNAL_BALANCE_BOUND), currency=st.sampled_from(sorted(EXPONENTS)))
def test_a_written_amount_reads_back_as_the_same_amount(amount: int, currency: str) -> None:
    written = Decimal(decimal_string(amount, currency))
    assert written.scaleb(EXPONENTS[currency]) == amount
    assert -written.as_tuple().exponent == EXPONENTS[currency]


def test_customer_balances_are_exact_in_any_json_reader_and_external_ones_in_sqlite() -> None:
    assert MAX_AMOUNT < CUSTOMER_BALANCE_BOUND < 2**53
    assert EXTERNAL_BALANCE_BOUND < 2**63
    assert EXTERNAL_BALANCE_BOUND + MAX_AMOUNT < 2**63, "one more sum does not overflow either"
