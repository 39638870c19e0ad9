"""The API after a restore: nothing that gave access before gives access again."""

import pytest
from pydantic import SecretStr

from core.cli.console import the_bank
from core.domain.users import Role
from core.security.access_tokens import AccessTokens
from core.security.secrets import Secrets
from core.security.token_keys import TokenKeys
from core.services.backups import making, manifests, restoring
from core.services.backups.restoring import Restored
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.api.conftest import PASSWORD, Api, Person, Start, join, refused
from tests.api.throttling.test_known_devices import device_token, log_in_on
from tests.api.throttling.test_rates_and_guesses import standing
from tests.builders import rows
from tests.conftest import JWT_SECRET


def back_up(settings: Settings) -> None:
    Secrets(settings).anchor_key.read_or_make()
    making.make(settings, Database(settings), settings.backups_path, lambda _step, _done, _of: None)


def lose_and_restore(settings: Settings) -> Restored:
    """Delete the ledger, and restore the newest backup."""
    for file in settings.data_dir.glob("banking.db*"):
        file.unlink()
    path, _ = manifests.kept(settings.backups_path)[-1]
    return restoring.restore(settings, path, the_bank(), lambda _step, _done, _of: None)


async def require_refused(api: Api, *people: Person) -> None:
    for person in people:
        person.client = api.client
        refused(await person.get("/users/me"), 401, "unauthenticated")
        if person.refresh_token:
            answer = await api.client.post("/token/refresh", json={"refresh_token": person.refresh_token})
            refused(answer, 401, "unauthenticated")


@pytest.mark.parametrize("key", [None, SecretStr(JWT_SECRET)])
async def test_sessions_from_before_the_backup_and_after_it_have_ended(
    start: Start, settings: Settings, key: SecretStr | None
) -> None:
    here = settings.model_copy(update={"jwt_secret": key})
    async with start(jwt_secret=key) as api:
        before = await api.sign_up("ada")
        back_up(here)
        await before.post("/logout")
        # The restored ledger's next token version, to which a step of one would lead.
        after = await api.log_in("ada")
        assert (await after.get("/users/me")).status_code == 200
    done = lose_and_restore(here)
    assert (done.sessions.users, done.sessions.refresh_tokens, done.token_keys_rotated) == (2, 1, key is None)
    async with start(jwt_secret=key) as api:
        await require_refused(api, before, after)
        again = await api.log_in("ada")
        assert (await again.get("/users/me")).status_code == 200
    lose_and_restore(here)
    async with start(jwt_secret=key) as api:
        await require_refused(api, before, after, again)


async def test_a_stolen_key_signs_nothing_after_a_restore(start: Start, settings: Settings) -> None:
    here = settings.model_copy(update={"jwt_secret": None})
    async with start(jwt_secret=None) as api:
        await api.sign_up("ada")
        back_up(here)
        stolen = (settings.secrets_dir / "jwt_secret").read_text()
    thief = AccessTokens(TokenKeys(Secrets(settings.model_copy(update={"jwt_secret": SecretStr(stolen)}))), seconds=60)
    lose_and_restore(here)
    async with start(jwt_secret=None) as api:
        ada = await api.log_in("ada")
        forged = thief.issue(api.runtime.access_tokens.read(ada.token))
        await require_refused(api, Person(api.client, ada.email, forged, refresh_token=""))


async def test_device_tokens_from_before_are_unknown(start: Start, settings: Settings) -> None:
    async with start() as api:
        await api.sign_up("ada")
        token = await device_token(api, "ada")
        assert "log-in-device" in standing(await log_in_on(api, "ada", token, PASSWORD))
        back_up(settings)
    lose_and_restore(settings)
    async with start() as api:
        assert "log-in-device" not in standing(await log_in_on(api, "ada", token, PASSWORD))
        new = await device_token(api, "ada")
        assert "log-in-device" in standing(await log_in_on(api, "ada", new, PASSWORD))


@pytest.mark.parametrize("is_kept_beside", [False, True])
async def test_an_operator_who_was_deactivated_after_the_backup_stays_out(
    start: Start, settings: Settings, database: Database, is_kept_beside: bool
) -> None:
    async with start() as api:
        mallory, chief = (join(api, database, name, Role.OPERATOR) for name in ("mallory", "chief"))
        ada, grace = await api.sign_up("ada"), await api.sign_up("grace")
        back_up(settings)
        ids = {person.email: (await person.get("/users/me")).json()["id"] for person in (mallory, ada, grace)}
        for person in (mallory, ada, grace):
            assert (await chief.post(f"/operator/users/{ids[person.email]}/deactivate")).status_code == 200
        assert (await chief.post(f"/operator/users/{ids[grace.email]}/reactivate")).status_code == 200
    database.close()
    if is_kept_beside:  # the data folder is lost with its list, and a copy was kept with the backups
        settings.exclusions_path.rename(settings.backups_path / settings.exclusions_path.name)
    assert lose_and_restore(settings).sessions.excluded == 2
    query = "SELECT email FROM users WHERE is_active = 1 AND role <> 'system' ORDER BY id"
    assert [row["email"] for row in rows(Database(settings), query)] == [chief.email, grace.email]
    async with start() as api:
        await require_refused(api, mallory, ada)
        form = {"username": ada.email, "password": PASSWORD}
        refused(await api.client.post("/login", data=form), 401, "unauthenticated")
        await api.log_in("grace")
