"""Services for sign-up, changes of password, and the life of refresh tokens."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us
from core.domain.audit import Author
from core.domain.errors import CommonError, Part, Refusal
from core.domain.users import Identity, Role, UserError
from core.services.identity import log_ins, operators, users
from core.services.identity.log_ins import LogIn
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.sqlite.glance import Glance
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    Person,
    accepted,
    add_user,
    author,
    bank_of_two,
    deactivate,
    from_ada_to_bob,
    rows,
    settle_all,
)

DAY = 86_400_000_000


@pytest.fixture
def ada(database: Database) -> Person:
    with unit_of_work(database) as connection:
        return add_user(connection, "Ada@Example.com")


NOBODY = Author(user_id=None, request_id="a-request", address="192.0.2.7")


def try_to_log_in(database: Database, person: Person, version: int = 0, **options: str) -> LogIn | None:
    with unit_of_work(database) as connection:
        return log_ins.log_in(connection, NOBODY, user_id=person.id, token_version=version, days=30, **options)


def log_in(database: Database, person: Person, version: int = 0, **options: str) -> LogIn:
    begun = try_to_log_in(database, person, version, **options)
    assert begun is not None
    return begun


def refresh(database: Database, token: str) -> LogIn | None:
    with unit_of_work(database) as connection:
        return log_ins.refresh(connection, NOBODY, token)


def identity(person: Person, version: int) -> Identity:
    return Identity(person.id, person.public_id, Role.CUSTOMER, version)


def by(person: Person) -> Author:
    return replace(NOBODY, user_id=person.id)


def version_of(database: Database, person: Person) -> int:
    version: int = rows(database, "SELECT token_version FROM users WHERE id = ?", person.id)[0]["token_version"]
    return version


# --- users -------------------------------------------------------------------------------------------------------


async def test_addresses_are_case_insensitive(database: Database, ada: Person, session: AsyncSession) -> None:
    found = await users.find_by_email(session, "ADA@example.COM")
    assert found is not None
    assert (found.id, found.email, found.role) == (ada.id, "ada@example.com", Role.CUSTOMER)
    assert (await users.get(session, ada.id)).public_id == ada.public_id
    assert await users.find_by_email(session, "nobody@example.com") is None


async def test_the_repr_of_a_user_omits_personal_data_and_the_hash_of_the_password(
    database: Database, session: AsyncSession
) -> None:
    with unit_of_work(database) as connection:
        users.sign_up(connection, email="eve@example.com", name="Eve Example", password_hash="a hash")
    eve = await users.find_by_email(session, "eve@example.com")
    assert eve is not None
    assert not any(secret in repr(eve) for secret in (eve.email, "Eve", eve.password_hash))


@pytest.mark.parametrize("email", ["ada@example.com", "ADA@EXAMPLE.COM"])
def test_an_address_can_sign_up_only_once(database: Database, ada: Person, email: str) -> None:
    with pytest.raises(Refusal) as refused, unit_of_work(database) as connection:
        add_user(connection, email)
    assert (refused.value.code, refused.value.about) == (UserError.EMAIL_TAKEN, Part.EMAIL)
    assert len(rows(database, "SELECT * FROM users")) == 2


def change_password(connection: Connection, person: Person, version: int) -> None:
    users.change_password(connection, by(person), identity(person, version), password_hash="new")


def test_a_new_password_ends_every_token(database: Database, ada: Person) -> None:
    before = log_in(database, ada)
    with unit_of_work(database) as connection:
        change_password(connection, ada, 0)
    assert version_of(database, ada) == 1
    assert refresh(database, before.refresh_token) is None
    assert refresh(database, log_in(database, ada, version=1).refresh_token) is not None


def test_the_second_of_two_concurrent_changes_is_rejected(database: Database, ada: Person) -> None:
    with pytest.raises(Refusal) as refused, unit_of_work(database) as connection:
        change_password(connection, ada, 0)
        change_password(connection, ada, 0)
    assert refused.value.code is CommonError.UNAUTHENTICATED
    assert version_of(database, ada) == 0


def test_a_deactivated_user_can_neither_change_anything_nor_log_in(database: Database, ada: Person) -> None:
    deactivate(database, ada)
    with pytest.raises(Refusal), unit_of_work(database) as connection:
        change_password(connection, ada, 0)
    assert try_to_log_in(database, ada) is None


# --- refresh tokens ----------------------------------------------------------------------------------------------


def test_a_refresh_token_is_exchanged_for_the_next_and_is_spent(database: Database, ada: Person) -> None:
    first = log_in(database, ada)
    second = refresh(database, first.refresh_token)
    assert second is not None
    assert (second.user_id, second.token_version) == (ada.public_id, 0)
    assert second.refresh_token != first.refresh_token
    assert refresh(database, second.refresh_token) is not None


def test_reuse_of_a_spent_token_revokes_only_its_family(database: Database, ada: Person) -> None:
    first, elsewhere = log_in(database, ada), log_in(database, ada)
    second = refresh(database, first.refresh_token)
    assert second is not None
    assert refresh(database, first.refresh_token) is None
    assert refresh(database, second.refresh_token) is None
    assert refresh(database, elsewhere.refresh_token) is not None


def test_two_processes_that_spend_one_token_at_once_end_its_family(
    database: Database, settings: Settings, ada: Person
) -> None:
    """The second process may hold a stolen copy, and nobody can tell which one is stolen: the whole family ends."""
    start = Barrier(2)

    def spends(token: str) -> LogIn | None:
        own = Database(settings)
        try:
            start.wait(10)
            return refresh(own, token)
        finally:
            own.close()

    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            session = log_in(database, ada)
            begun = list(pool.map(spends, [session.refresh_token] * 2))
            (won,) = (item for item in begun if item is not None)
            assert refresh(database, won.refresh_token) is None


def test_a_log_in_fails_if_the_password_changed_while_it_was_hashed(database: Database, ada: Person) -> None:
    with unit_of_work(database) as connection:
        change_password(connection, ada, 0)
    assert try_to_log_in(database, ada, version=0) is None
    assert rows(database, "SELECT id FROM refresh_tokens") == []


def test_a_reactivated_user_needs_a_new_log_in(database: Database, ada: Person) -> None:
    before = log_in(database, ada)
    with unit_of_work(database) as connection:
        operators.deactivate(connection, author(1), Path("exclusions"), ada.public_id)
        operators.reactivate(connection, author(1), ada.public_id)
    assert version_of(database, ada) > 0
    assert refresh(database, before.refresh_token) is None


def test_an_unknown_refresh_token_is_rejected(database: Database, ada: Person) -> None:
    log_in(database, ada)
    assert refresh(database, "made up") is None
    assert refresh(database, "") is None


def test_logging_out_ends_every_session(database: Database, ada: Person) -> None:
    sessions = [log_in(database, ada) for _ in range(2)]
    with unit_of_work(database) as connection:
        log_ins.log_out(connection, by(ada), identity(ada, 0))
    assert [refresh(database, item.refresh_token) for item in sessions] == [None, None]


def test_a_deactivated_user_cannot_refresh(database: Database, ada: Person) -> None:
    session = log_in(database, ada)
    deactivate(database, ada)
    assert refresh(database, session.refresh_token) is None


def test_a_refresh_never_extends_the_lifetime_of_the_log_in(
    database: Database, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, first = now_us(), log_in(database, ada)
    monkeypatch.setattr(log_ins, "now_us", lambda: start + 29 * DAY)
    second = refresh(database, first.refresh_token)
    assert second is not None
    monkeypatch.setattr(log_ins, "now_us", lambda: start + 31 * DAY)
    assert refresh(database, second.refresh_token) is None


def test_expired_tokens_are_deleted_a_few_at_a_time(
    database: Database, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        log_in(database, ada)
    start = now_us()
    with unit_of_work(database) as connection:
        assert log_ins.forget_expired(connection) == 0
    monkeypatch.setattr(log_ins, "now_us", lambda: start + 31 * DAY)
    alive = log_in(database, ada)
    with unit_of_work(database) as connection:
        assert [log_ins.forget_expired(connection, limit=3) for _ in range(3)] == [3, 2, 0]
    assert refresh(database, alive.refresh_token) is not None


def test_a_stronger_hash_replaces_the_stored_one_and_ends_no_session(database: Database, ada: Person) -> None:
    log_in(database, ada, stronger_hash="stronger")
    assert rows(database, "SELECT password_hash, token_version FROM users WHERE id = ?", ada.id) == [
        {"password_hash": "stronger", "token_version": 0}
    ]


def test_no_token_is_stored_in_clear(database: Database, ada: Person) -> None:
    session = log_in(database, ada)
    (kept,) = rows(database, "SELECT * FROM refresh_tokens")
    assert session.refresh_token.encode() not in kept["digest"]
    assert session.refresh_token not in kept.values()


# --- short reads on the event loop ---


async def test_a_glance_sees_every_commit_immediately(database: Database, ada: Person) -> None:
    peek = Glance(database)
    before = await peek.data_version()
    assert await peek.data_version() == before
    identity = await peek.identity(ada.public_id)
    assert identity is not None
    assert (identity.id, identity.role, identity.token_version) == (ada.id, Role.CUSTOMER, 0)
    deactivate(database, ada)
    assert await peek.data_version() != before
    assert await peek.identity(ada.public_id) is None
    await peek.close()


async def test_a_glance_finds_the_transfers_that_have_ended(database: Database) -> None:
    bank = bank_of_two(database, ada_has=10_000)
    ended = [accepted(database, from_ada_to_bob(bank, 1)).id for _ in range(3)]
    settle_all(database)
    pending = [accepted(database, from_ada_to_bob(bank, 1)).id for _ in range(2)]
    peek = Glance(database)
    assert set(await peek.ended([*pending, *ended])) == set(ended)
    assert await peek.ended([]) == []
    await peek.close()
