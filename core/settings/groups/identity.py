"""Users, log-ins and passwords."""

from pathlib import Path

from pydantic import Field

from core.settings.groups.base import DataFolder


class IdentitySettings(DataFolder):
    """How long tokens live, how passwords are hashed, and how many accounts a user can have."""

    title = "Users"

    access_token_seconds: int = Field(900, ge=1, le=86_400, description="Lifetime of an access token.")
    refresh_token_days: int = Field(30, ge=1, le=365, description="Lifetime of a log-in. A refresh does not extend it.")
    device_token_days: int = Field(
        180,
        ge=1,
        le=730,
        description="Time for which a device that has logged in is known. Failed log-ins from elsewhere do not delay a "
        "log-in from it.",
    )
    password_hash_rounds: int = Field(
        12,
        ge=4,
        le=16,
        description="Cost of bcrypt: the logarithm to base 2 of its rounds. After a change, a password is hashed "
        "again at the next log-in.",
    )
    password_hash_threads: int = Field(
        2, ge=1, le=64, description="Passwords of strangers that are hashed at the same time; and one of known users."
    )
    password_hash_waiting: int = Field(
        16,
        ge=0,
        le=10_000,
        description="Passwords that may wait to be hashed, at most a quarter of them from one user or address. One "
        "more is answered 503 `unavailable`.",
    )
    allow_test_emails: bool = Field(
        False,
        description="Accept new users with addresses under `.test`, `.local` and `localhost`, which no mail reaches. "
        "For trials and tests, not for production.",
    )
    accounts_per_user: int = Field(1000, ge=1, le=100_000, description="Accounts that one user can have.")

    @property
    def erasures_path(self) -> Path:
        """The file that lists erased users, absolute. A restore reads it."""
        return self.data_dir.absolute() / "erasures"

    @property
    def exclusions_path(self) -> Path:
        """The file that lists users without access, absolute. A restore reads it."""
        return self.data_dir.absolute() / "exclusions"
