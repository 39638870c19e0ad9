"""Errors, by stable code. Nothing here depends on HTTP."""

from enum import Enum, StrEnum, auto
from typing import Self


class Kind(Enum):
    """What an error means for the caller. The API gives each kind one HTTP status."""

    CONFLICT = auto()
    """The object's present state does not allow the call."""
    FORBIDDEN = auto()
    INTERNAL = auto()
    INVALID = auto()
    """The request contradicts itself, an earlier request or the rules for its fields."""
    NOT_FOUND = auto()
    """The object does not exist, or the caller may not see it."""
    REFUSED = auto()
    """The request is well-formed, but a rule of the bank refuses it."""
    TOO_MANY = auto()
    UNAUTHENTICATED = auto()
    UNAVAILABLE = auto()


class ErrorCode(StrEnum):
    """Every code that can appear in an answer, in a failed transfer or in a log line.

    A code never changes its name or its meaning.
    """

    # Each capability declares its own codes: a subclass next to its domain. The docstring is in the OpenAPI document.

    kind: Kind | None
    message: str
    advice: str
    """What a client should do."""

    def __new__(cls, text: str, kind: Kind | None, message: str, advice: str) -> Self:
        """Declare a code. `kind` is None if the core never answers a call with it."""
        if text in _CODES:
            raise ValueError(f"the code {text} is declared twice")
        code = str.__new__(cls, text)
        code._value_, code.kind, code.message, code.advice = text, kind, message, advice
        _CODES[text] = code
        return code

    @staticmethod
    def of(text: str) -> "ErrorCode":
        """Return the code with a text, as it is stored; raises KeyError if no imported module declares it."""
        return _CODES[text]

    @staticmethod
    def all() -> list["ErrorCode"]:
        """List the codes of all modules that are imported, in alphabetical order."""
        return sorted(_CODES.values())


_CODES: dict[str, ErrorCode] = {}


class CommonError(ErrorCode):
    """Errors that any call can have."""

    FORBIDDEN = "forbidden", Kind.FORBIDDEN, "This call requires the operator role.", "Do not repeat the request."
    INTERNAL_ERROR = (
        "internal_error",
        Kind.INTERNAL,
        "Internal error. It was logged under this request id.",
        "Retry with the same key; report the `request_id` to the operator.",
    )
    OUTCOME_UNKNOWN = (
        "outcome_unknown",
        Kind.UNAVAILABLE,
        "The commit failed, and the request may have been recorded. Retry with the same key.",
        "Wait `Retry-After` seconds, then retry with the same key. Without a key, first read if it took effect.",
    )
    RATE_LIMITED = (
        "rate_limited",
        Kind.TOO_MANY,
        "Too many requests or failed attempts. Nothing was done.",
        "Wait `Retry-After` seconds, then retry.",
    )
    UNAUTHENTICATED = (
        "unauthenticated",
        Kind.UNAUTHENTICATED,
        "A valid access token is required.",
        "Refresh the token, or log in again.",
    )
    UNAVAILABLE = (
        "unavailable",
        Kind.UNAVAILABLE,
        "The service cannot accept this request now. Nothing was recorded.",
        "Wait `Retry-After` seconds, then retry with the same key.",
    )
    VALIDATION_FAILED = "validation_failed", Kind.INVALID, "Validation failed.", "Fix what `errors` names."


class Part(Enum):
    """The part of a request that an error is about. Only the API knows where its routes take each part from."""

    ACCOUNT = auto()
    AMOUNT = auto()
    CARD = auto()
    CURRENCY = auto()
    CURSOR = auto()
    EMAIL = auto()
    IDEMPOTENCY_KEY = auto()
    MONTH = auto()
    NEW_PASSWORD = auto()
    PASSWORD = auto()
    PAYEE = auto()
    PAYEE_NUMBER = auto()
    """The payee, named by account number."""
    PAYER = auto()
    USER = auto()


class GiroError(Exception):
    """An error that Giro answers with a code.

    `about` is None if the error is not about a single part of the request. `line` is the index (from 0) of the line of
    a batch that the error is about, or None.
    """

    def __init__(
        self, code: ErrorCode, *, about: Part | None = None, line: int | None = None, detail: str | None = None
    ) -> None:
        self.code = code
        self.about = about
        self.line = line
        self.detail = detail or code.message
        super().__init__(self.detail)


class Refusal(GiroError):
    """A request that was understood but is not carried out. Nothing was recorded, and a retry does not help."""


class RateLimited(GiroError):
    """Too many requests, failures or pending transfers. Nothing was done; a retry can succeed after `wait_seconds`."""

    def __init__(
        self, wait_seconds: int, code: ErrorCode = CommonError.RATE_LIMITED, *, detail: str | None = None
    ) -> None:
        super().__init__(code, detail=detail)
        self.wait_seconds = wait_seconds


class Unavailable(GiroError):
    """The database is locked, full or read-only, or too many requests wait. Nothing was recorded; retry."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(CommonError.UNAVAILABLE, detail=detail)


class Crowded(Unavailable):
    """Too many requests wait, in total or of this client."""


class OutcomeUnknown(GiroError):
    """The commit failed, and so did the commit that should rule it out. Only a retry with the same key can tell."""

    def __init__(self) -> None:
        super().__init__(CommonError.OUTCOME_UNKNOWN)
