"""Money: integers in minor units, and the currencies."""

MAX_AMOUNT = 10**15
"""The largest amount of one transfer, in minor units."""

CUSTOMER_BALANCE_BOUND = 9 * 10**15
"""A customer's balance stays within ± this many minor units: exact in any JSON reader (below 2^53)."""

EXTERNAL_BALANCE_BOUND = 9 * 10**18
"""An external account's balance stays within ± this many minor units: exact in SQLite (below 2^63)."""


def _table(by_exponent: dict[int, str]) -> dict[str, int]:
    return {code: exponent for exponent, codes in by_exponent.items() for code in codes.split()}


EXPONENTS: dict[str, int] = _table(
    {
        0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
        2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF "
        "CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG "
        "HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR "
        "MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD "
        "SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD "
        "XCG YER ZAR ZMW ZWG",
        3: "BHD IQD JOD KWD LYD OMR TND",
        4: "CLF UYW",
    }
)
"""Currency code → exponent: the number of decimals of the currency.

Source: ISO 4217, list one, of January 2026. Codes without an exponent (gold, XDR, XXX …) are left out: an account
cannot hold them.
"""


def decimal_string(amount: int, currency: str) -> str:
    """Write an amount of minor units with the currency's decimals: 1050 USD is `10.50`, 1050 JPY is `1050`.

    Raises KeyError for a code that is not in `EXPONENTS`.
    """
    exponent = EXPONENTS[currency]
    sign = "-" if amount < 0 else ""
    digits = str(abs(amount)).rjust(exponent + 1, "0")
    if exponent == 0:
        return sign + digits
    return f"{sign}{digits[:-exponent]}.{digits[-exponent:]}"
