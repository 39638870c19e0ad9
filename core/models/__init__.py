"""The tables, as SQLAlchemy 2 declarative models. Importing this package fills `Base.metadata`."""

from core.models.accounts import Account
from core.models.audit import AuditEntry
from core.models.base import Base
from core.models.batches import Batch
from core.models.blocks import Block
from core.models.cards import Card
from core.models.dead_letters import DeadLetter
from core.models.fences import Fence
from core.models.statements import Statement, StatementGroup, StatementRun
from core.models.tokens import RefreshToken
from core.models.transactions import Transaction
from core.models.transfers import Transfer
from core.models.users import User
from core.models.verifications import Verification

__all__ = [
    "Account",
    "AuditEntry",
    "Base",
    "Batch",
    "Block",
    "Card",
    "DeadLetter",
    "Fence",
    "RefreshToken",
    "Statement",
    "StatementGroup",
    "StatementRun",
    "Transaction",
    "Transfer",
    "User",
    "Verification",
]
