"""The tables, as SQLAlchemy 2 declarative models. Importing this package fills `Base.metadata`."""

from core.models.accounts import Account
from core.models.audit import AuditEntry
from core.models.base import Base
from core.models.cards import Card
from core.models.fences import Fence
from core.models.tokens import RefreshToken
from core.models.transactions import Transaction
from core.models.transfers import Transfer
from core.models.users import User

__all__ = ["Account", "AuditEntry", "Base", "Card", "Fence", "RefreshToken", "Transaction", "Transfer", "User"]
