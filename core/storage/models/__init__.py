"""The tables, as SQLAlchemy 2 declarative models. Importing this package fills `Base.metadata`."""

from core.storage.models.accounts import Account, Reservation
from core.storage.models.audit import AuditEntry
from core.storage.models.base import Base
from core.storage.models.batches import Batch
from core.storage.models.blocks import Block
from core.storage.models.cards import Card
from core.storage.models.clocks import Clock
from core.storage.models.dead_letters import DeadLetter
from core.storage.models.documents import Document
from core.storage.models.endings import Ending
from core.storage.models.fences import Fence
from core.storage.models.isolations import Isolation
from core.storage.models.lanes import Lane
from core.storage.models.scars import Scar
from core.storage.models.statements import Statement, StatementGroup, StatementRun
from core.storage.models.tokens import RefreshToken
from core.storage.models.transactions import Milestone, Transaction
from core.storage.models.transfers import Transfer
from core.storage.models.users import User
from core.storage.models.verifications import Verification

__all__ = [
    "Account",
    "AuditEntry",
    "Base",
    "Batch",
    "Block",
    "Card",
    "Clock",
    "DeadLetter",
    "Document",
    "Ending",
    "Fence",
    "Isolation",
    "Lane",
    "Milestone",
    "RefreshToken",
    "Reservation",
    "Scar",
    "Statement",
    "StatementGroup",
    "StatementRun",
    "Transaction",
    "Transfer",
    "User",
    "Verification",
]
