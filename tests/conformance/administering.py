"""Plays the acts that move no money: those of people and operators about users and accounts."""

from functools import singledispatch

from sqlalchemy import Connection

from core.domain.accounts import FreezeScope
from core.services import accounts as accounts_service
from core.services.identity import erasures, operators, users
from core.storage import accounts
from tests.conformance import acts
from tests.conformance.acts import BANK, owner_of
from tests.conformance.names import OUTSIDE, Names


@singledispatch
def administer(act: object, connection: Connection, names: Names) -> None:
    """Play one act in a unit of work. Raises its refusal."""
    raise TypeError(f"nobody knows how to play {act}")


@administer.register
def _sign_up(act: acts.SignUp, connection: Connection, names: Names) -> None:
    for person in act.people:
        email = _email(person)
        names.users[person] = users.sign_up(connection, email=email, name=None, password_hash="!")
        names.row_ids[person] = operators.active_user_by_email(connection, email)


@administer.register
def _hire(act: acts.Hire, connection: Connection, names: Names) -> None:
    email = _email(act.person)
    names.users[act.person] = operators.create(connection, names.author(BANK), email=email, password_hash="!")
    names.row_ids[act.person] = operators.active_user_by_email(connection, email)


@administer.register
def _deactivate(act: acts.Deactivate, connection: Connection, names: Names) -> None:
    operators.deactivate(connection, names.author(), names.folder / "exclusions", names.user(act.person))


@administer.register
def _reactivate(act: acts.Reactivate, connection: Connection, names: Names) -> None:
    operators.reactivate(connection, names.author(), names.user(act.person))


@administer.register
def _erase(act: acts.Erase, connection: Connection, names: Names) -> None:
    listed, documents = names.folder / "erasures", names.folder / "documents"
    erasures.erase(connection, names.author(), listed, names.user(act.person), documents=documents)


@administer.register
def _limit_pending(act: acts.LimitPending, connection: Connection, names: Names) -> None:
    operators.set_pending_limit(connection, names.author(), names.user(act.person), act.limit)


@administer.register
def _open(act: acts.Open, connection: Connection, names: Names) -> None:
    owner, currency = names.row_ids[owner_of(act.account)], act.currency
    opened = accounts_service.open_account(connection, owner_id=owner, currency=currency, most=act.most)
    external = accounts.find_externals(connection, [currency])[currency]
    names.accounts |= {act.account: opened, OUTSIDE + currency: external.public_id}


@administer.register
def _close(act: acts.Close, connection: Connection, names: Names) -> None:
    owner = names.row_ids[owner_of(act.account)]
    accounts_service.close_account(connection, user_id=owner, account_id=names.account(act.account))


@administer.register
def _freeze(act: acts.Freeze, connection: Connection, names: Names) -> None:
    operators.freeze(connection, names.author(), names.account(act.account), FreezeScope(act.scope))


@administer.register
def _unfreeze(act: acts.Unfreeze, connection: Connection, names: Names) -> None:
    operators.unfreeze(connection, names.author(), names.account(act.account))


@administer.register
def _limit_overdraft(act: acts.LimitOverdraft, connection: Connection, names: Names) -> None:
    operators.set_overdraft_limit(connection, names.author(), names.account(act.account), act.amount)


def _email(person: str) -> str:
    return f"{person}@example.com"
