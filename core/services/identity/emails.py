"""E-mail addresses: the one form in which they are stored, looked up and counted."""

from email_validator import EmailNotValidError, validate_email

from core.domain.errors import CommonError, Part, Refusal

_TEST_DOMAINS = ("test", "local", "localhost")
"""Top-level domains that no mail reaches (RFC 2606, RFC 6762). Trials and tests use them."""

INVALID = "value is not a valid email address"
ONLY_IN_TRIALS = "Addresses under .test, .local and localhost are accepted only if GIRO_ALLOW_TEST_EMAILS is set."


def normalised(email: str) -> str:
    """Return the stored form of an address: trimmed, composed (NFC), with a decoded domain, in lower case.

    Raises ValueError for what is no address. An address under a test domain is valid here.
    """
    bare = email.strip()
    # The library refuses these domains. Under another one the same rules hold for all other parts.
    outer = ".com" if is_for_tests(bare) else ""
    try:
        found = validate_email(bare + outer, check_deliverability=False)
    except EmailNotValidError:
        raise ValueError(INVALID) from None
    return found.normalized.lower().removesuffix(outer)


def looked_up(email: str) -> str:
    """Return the form to look an address up by. What is no address is trimmed and in lower case, and finds nobody."""
    try:
        return normalised(email)
    except ValueError:
        return email.strip().lower()


def is_for_tests(email: str) -> bool:
    """Return whether an address is under a domain that no mail reaches."""
    return email.rpartition("@")[2].lower().rpartition(".")[2].strip() in _TEST_DOMAINS


def check_domain(email: str, *, tests_allowed: bool) -> None:
    """Refuse an address under a test domain unless these are allowed. Raises Refusal (`validation_failed`)."""
    if is_for_tests(email) and not tests_allowed:
        raise Refusal(CommonError.VALIDATION_FAILED, about=Part.EMAIL, detail=ONLY_IN_TRIALS)
