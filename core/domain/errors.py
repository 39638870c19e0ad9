"""Errors, by stable code. Nothing here depends on HTTP."""

from enum import Enum, StrEnum, auto


class ErrorCode(StrEnum):
    """Every code that can appear in an answer, in a failed transfer or in a log line.

    A code never changes its name or its meaning.
    """

    ACCOUNT_CLOSED = "account_closed"
    ACCOUNT_FROZEN = "account_frozen"
    ACCOUNT_HAS_PENDING = "account_has_pending"
    ACCOUNT_NOT_EMPTY = "account_not_empty"
    ACCOUNT_NOT_FOUND = "account_not_found"
    BALANCE_LIMIT_EXCEEDED = "balance_limit_exceeded"
    BATCH_FAILED = "batch_failed"
    BODY_TOO_LARGE = "body_too_large"
    CARD_CANCELLED = "card_cancelled"
    CARD_NOT_FOUND = "card_not_found"
    CURRENCY_MISMATCH = "currency_mismatch"
    DEAD_LETTER_NOT_FOUND = "dead_letter_not_found"
    EMAIL_TAKEN = "email_taken"
    FORBIDDEN = "forbidden"
    HEADERS_TOO_LARGE = "headers_too_large"
    IDEMPOTENCY_KEY_INVALID = "idempotency_key_invalid"
    IDEMPOTENCY_KEY_MISSING = "idempotency_key_missing"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    INTERNAL_ERROR = "internal_error"
    LIMIT_IN_USE = "limit_in_use"
    MALFORMED_BODY = "malformed_body"
    MALFORMED_REQUEST = "malformed_request"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    NOT_FOUND = "not_found"
    OUTCOME_UNKNOWN = "outcome_unknown"
    OWNER_INACTIVE = "owner_inactive"
    RATE_LIMITED = "rate_limited"
    REQUEST_TIMEOUT = "request_timeout"
    SAME_ACCOUNT = "same_account"
    STATEMENT_NOT_FOUND = "statement_not_found"
    STATEMENT_PENDING = "statement_pending"
    STATEMENT_TOO_LARGE = "statement_too_large"
    TOO_MANY_ACCOUNTS = "too_many_accounts"
    TOO_MANY_CARDS = "too_many_cards"
    TRANSFER_NOT_CANCELLABLE = "transfer_not_cancellable"
    TRANSFER_NOT_FOUND = "transfer_not_found"
    UNAUTHENTICATED = "unauthenticated"
    UNAVAILABLE = "unavailable"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    URI_TOO_LONG = "uri_too_long"
    USER_ACTIVE = "user_active"
    USER_ERASED = "user_erased"
    USER_NOT_FOUND = "user_not_found"
    VALIDATION_FAILED = "validation_failed"


MESSAGES: dict[ErrorCode, str] = {
    ErrorCode.ACCOUNT_CLOSED: "The account is closed.",
    ErrorCode.ACCOUNT_FROZEN: "The account is frozen.",
    ErrorCode.ACCOUNT_HAS_PENDING: "The account has pending transfers.",
    ErrorCode.ACCOUNT_NOT_EMPTY: "The balance of the account is not 0.",
    ErrorCode.ACCOUNT_NOT_FOUND: "Account not found.",
    ErrorCode.BALANCE_LIMIT_EXCEEDED: "The balance would leave the range that an account can hold.",
    ErrorCode.BATCH_FAILED: "Another transfer of the atomic batch failed, so the whole batch failed.",
    ErrorCode.BODY_TOO_LARGE: "The body is too large for this call.",
    ErrorCode.CARD_CANCELLED: "The card is cancelled.",
    ErrorCode.CARD_NOT_FOUND: "Card not found.",
    ErrorCode.CURRENCY_MISMATCH: "The currencies differ.",
    ErrorCode.DEAD_LETTER_NOT_FOUND: "Parked message not found.",
    ErrorCode.EMAIL_TAKEN: "This e-mail address is already registered.",
    ErrorCode.FORBIDDEN: "This call requires the operator role.",
    ErrorCode.HEADERS_TOO_LARGE: "The headers are too large.",
    ErrorCode.IDEMPOTENCY_KEY_INVALID: "An idempotency key must have 1 to 255 visible ASCII characters.",
    ErrorCode.IDEMPOTENCY_KEY_MISSING: "This call requires an Idempotency-Key header.",
    ErrorCode.IDEMPOTENCY_KEY_REUSED: "This idempotency key was already used for a different request.",
    ErrorCode.INSUFFICIENT_FUNDS: "The available funds do not cover the amount.",
    ErrorCode.INTERNAL_ERROR: "Internal error. It was logged under this request id.",
    ErrorCode.LIMIT_IN_USE: "The balance is already below this limit.",
    ErrorCode.MALFORMED_BODY: "The body is not a single well-formed JSON value.",
    ErrorCode.MALFORMED_REQUEST: "This is not a well-formed HTTP/1.1 request.",
    ErrorCode.METHOD_NOT_ALLOWED: "Method not allowed on this path.",
    ErrorCode.NOT_ACCEPTABLE: "This call cannot answer with a media type that the Accept header allows.",
    ErrorCode.NOT_FOUND: "Route not found.",
    ErrorCode.OUTCOME_UNKNOWN: "The commit failed, and the request may have been recorded. Retry with the same key.",
    ErrorCode.OWNER_INACTIVE: "The owner of the account is deactivated.",
    ErrorCode.RATE_LIMITED: "Too many requests or failed attempts. Nothing was done.",
    ErrorCode.REQUEST_TIMEOUT: "The request did not arrive in time.",
    ErrorCode.SAME_ACCOUNT: "A transfer needs two different accounts.",
    ErrorCode.STATEMENT_NOT_FOUND: "Statement not found.",
    ErrorCode.STATEMENT_PENDING: "The statement is not ready yet. Try again soon.",
    ErrorCode.STATEMENT_TOO_LARGE: "The statement has too many transactions for one document. Page through its JSON.",
    ErrorCode.TOO_MANY_ACCOUNTS: "You already have the maximum number of accounts.",
    ErrorCode.TOO_MANY_CARDS: "The account already has the maximum number of cards.",
    ErrorCode.TRANSFER_NOT_CANCELLABLE: "The transfer has already ended.",
    ErrorCode.TRANSFER_NOT_FOUND: "Transfer not found.",
    ErrorCode.UNAUTHENTICATED: "A valid access token is required.",
    ErrorCode.UNAVAILABLE: "The service cannot accept this request now. Nothing was recorded.",
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: "This call does not accept the body's media type.",
    ErrorCode.URI_TOO_LONG: "The path and the query are too long.",
    ErrorCode.USER_ACTIVE: "The user still has access. Deactivate the user first.",
    ErrorCode.USER_ERASED: "The user was erased permanently.",
    ErrorCode.USER_NOT_FOUND: "User not found.",
    ErrorCode.VALIDATION_FAILED: "Validation failed.",
}


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
        self.detail = detail or MESSAGES[code]
        super().__init__(self.detail)


class Refusal(GiroError):
    """A request that was understood but is not carried out. Nothing was recorded, and a retry does not help."""


class RateLimited(GiroError):
    """Too many requests or too many failures. Nothing was done; the client can retry after `wait_seconds`."""

    def __init__(self, wait_seconds: int) -> None:
        super().__init__(ErrorCode.RATE_LIMITED)
        self.wait_seconds = wait_seconds


class Unavailable(GiroError):
    """The database is locked, full or read-only, or too many requests wait. Nothing was recorded; retry."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(ErrorCode.UNAVAILABLE, detail=detail)


class OutcomeUnknown(GiroError):
    """The commit failed, and so did the commit that should rule it out. Only a retry with the same key can tell."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.OUTCOME_UNKNOWN)
