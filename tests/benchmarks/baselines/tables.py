"""The tables of the baselines on SQLite, through SQLAlchemy's ORM, and the one transaction that moves money."""

import os
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, Engine, ForeignKey, UniqueConstraint, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

PATH = os.environ.get("BENCH_DATABASE", "")


class Base(DeclarativeBase):
    """The base class of the tables."""


class Account(Base):
    """An account; the balance is in minor units."""

    __tablename__ = "accounts"
    __table_args__ = (CheckConstraint("balance >= 0 OR owner_id = 0"),)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[int]
    currency: Mapped[str]
    status: Mapped[str]
    balance: Mapped[int]


class Transfer(Base):
    """A transfer. The pair of user and key is unique, so that a repeated request is harmless."""

    __tablename__ = "transfers"
    __table_args__ = (UniqueConstraint("submitted_by", "idempotency_key"), CheckConstraint("amount > 0"))
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    submitted_by: Mapped[int]
    idempotency_key: Mapped[str]
    from_account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    to_account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    amount: Mapped[int]
    status: Mapped[str] = mapped_column(index=True)


class Leg(Base):
    """One side of an executed transfer."""

    __tablename__ = "transactions"
    id: Mapped[int] = mapped_column(primary_key=True)
    transfer_id: Mapped[UUID] = mapped_column(ForeignKey("transfers.id"))
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    amount: Mapped[int]
    balance_after: Mapped[int]


def refusal(payer: Account | None, payee: Account | None, amount: int, user: int) -> str | None:
    """Return why a transfer is not allowed: owner, same account, currency, status or funds."""
    if payer is None or payee is None or payer.owner_id != user:
        return "account_not_found"
    if payer is payee:
        return "same_account"
    if payer.currency != payee.currency:
        return "currency_mismatch"
    if payer.status != "active" or payee.status != "active":
        return "account_frozen"
    return "insufficient_funds" if payer.balance < amount else None


def execute(transfer: Transfer, payer: Account, payee: Account) -> list[Leg]:
    """Move the money and return the legs; the caller's transaction writes everything."""
    legs = []
    for account, change in ((payer, -transfer.amount), (payee, transfer.amount)):
        account.balance += change
        legs.append(Leg(transfer_id=transfer.id, account_id=account.id, amount=change, balance_after=account.balance))
    transfer.status = "completed"
    return legs


def set_up(engine: Engine) -> Engine:
    """Give each connection of an engine Giro's durability, and start its transactions as write transactions."""

    @event.listens_for(engine, "connect")
    def prepare(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            cursor = connection.cursor()  # type: ignore[attr-defined]
            cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: object) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]

    return engine


def create(path: str, owners: dict[UUID, int], funds: int) -> None:
    """Create a file with funded accounts; the money comes from an account of the bank."""
    engine = set_up(create_engine(f"sqlite:///{path}"))
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        bank = Account(id=uuid4(), owner_id=0, currency="USD", status="active", balance=-funds * len(owners))
        session.add(bank)
        for account, owner in owners.items():
            session.add(Account(id=account, owner_id=owner, currency="USD", status="active", balance=funds))
    engine.dispose()
