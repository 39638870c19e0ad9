"""What clients did and saw, on one monotonic clock."""

from dataclasses import dataclass, field
from threading import Lock


@dataclass(slots=True, kw_only=True)
class Submission:
    """A transfer that a client submitted, from its first attempt to what became of it. Times are in seconds."""

    key: str
    payer: str
    payee: str
    amount: int
    invoked_at: float
    attempts: int = 0
    doubtful: bool = False
    """An attempt had no answer, or one that leaves open whether it was recorded."""
    answered_at: float | None = None
    """When the first 202 came."""
    bodies: set[bytes] = field(default_factory=set)
    """Every body that a 202 had."""
    id: str | None = None
    refused: str | None = None
    """The code of a refusal."""
    cancelled: bool = False
    """The service said that it is cancelled."""
    status: str | None = None
    ended_at: float | None = None
    """When it was first seen with an end."""
    resolved: bool = False
    """It had no answer to the last, and was looked up after all faults were over."""

    @property
    def outcome(self) -> str:
        """What the client knows: ok, fail or unknown."""
        if self.id is not None:
            return "ok"
        # A refusal settles nothing after an attempt without an answer: that one may be carried out after it.
        return "unknown" if self.doubtful else "fail"


@dataclass(slots=True)
class History:
    """All that was done and seen in a run."""

    submissions: list[Submission] = field(default_factory=list)
    pages: int = 0
    wrong_sums: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What a client saw that must never be."""
    lock: Lock = field(default_factory=Lock)

    def add(self, submission: Submission) -> None:
        """Keep a submission, from its first attempt on."""
        with self.lock:
            self.submissions.append(submission)
