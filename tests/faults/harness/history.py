"""What clients did and saw, on one monotonic clock."""

from dataclasses import dataclass, field
from threading import Lock


@dataclass(slots=True, kw_only=True)
class Submission:
    """A transfer that a client submitted, from its first attempt to its outcome. Times are in seconds."""

    key: str
    payer: str
    payee: str
    amount: int
    invoked_at: float
    attempts: int = 0
    doubtful: bool = False
    """An attempt had no answer, or an answer that does not tell whether it was recorded."""
    answered_at: float | None = None
    """When the first 202 arrived."""
    bodies: set[bytes] = field(default_factory=set)
    """Every body of a 202."""
    id: str | None = None
    refused: str | None = None
    """The error code of a refusal."""
    cancelled: bool = False
    """The service said that the transfer is cancelled."""
    status: str | None = None
    ended_at: float | None = None
    """When the client first saw that it had ended."""
    resolved: bool = False
    """It was still unanswered, and was looked up after all faults had ended."""

    @property
    def outcome(self) -> str:
        """What the client knows: ok, fail or unknown."""
        if self.id is not None:
            return "ok"
        # A refusal is not final after an unanswered attempt: that attempt may still be executed later.
        return "unknown" if self.doubtful else "fail"


@dataclass(frozen=True, slots=True)
class ListRead:
    """All transfers of an account that a client read, as they were when its first page was answered."""

    account: str
    invoked_at: float
    answered_at: float
    transfers: list[str] | None
    """Their ids, oldest first; None if a page was not answered."""


@dataclass(slots=True)
class History:
    """Everything that clients did and saw in a run."""

    submissions: list[Submission] = field(default_factory=list)
    lists: list[ListRead] = field(default_factory=list)
    deposits: set[str] = field(default_factory=set)
    """Ids of the deposits that funded the accounts before the run."""
    pages: int = 0
    wrong_sums: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Impossible things that a client saw."""
    lock: Lock = field(default_factory=Lock)

    def add(self, submission: Submission) -> None:
        """Record a submission, from its first attempt."""
        with self.lock:
            self.submissions.append(submission)
