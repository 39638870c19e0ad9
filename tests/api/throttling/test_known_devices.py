"""Log-ins on a device that has logged in before: strangers do not delay them."""

from typing import Any

import httpx2
import pytest

from tests.api.conftest import PASSWORD, Api, Start, masked, refused
from tests.api.throttling.test_rates_and_guesses import FEW, WRONG, fail, from_address, limited, log_in, standing
from tests.builders import rows
from tests.time_travel import Clock


class TestOnAKnownDevice:
    """A log-in with the device token of an earlier one."""

    async def test_is_not_delayed_by_strangers_wherever_they_are(self, start: Start, clock: Clock) -> None:
        async with start(**FEW | {"throttle_account_everywhere_tries": 4}) as api:
            await api.sign_up("ada")
            token = await device_token(api, "ada")
            await fail(api, 3)
            async with from_address(api, "203.0.113.9") as stranger:
                await fail(api, 1, client=stranger)
                limited(await log_in(api, "ada", client=stranger), "log-in-everywhere", 1)
            limited(await log_in(api, "ada", PASSWORD), "log-in-account", 1)
            await fail(api, 2, "somebody-else")
            limited(await log_in(api, "grace", PASSWORD), "log-in-address", 1)
            answer = await log_in_on(api, "ada", token, PASSWORD)
            assert (answer.status_code, standing(answer)["log-in-device"]) == (200, 3)

    async def test_has_its_own_delay_after_failures(self, start: Start, clock: Clock) -> None:
        async with start(**FEW) as api:
            await api.sign_up("ada")
            token, other = await device_token(api, "ada"), await device_token(api, "ada")
            for _ in range(3):
                refused(await log_in_on(api, "ada", token, WRONG), 401, "unauthenticated")
            limited(await log_in_on(api, "ada", token, PASSWORD), "log-in-device", 1)
            for elsewhere in (log_in_on(api, "ada", other, PASSWORD), log_in(api, "ada", PASSWORD)):
                assert (await elsewhere).status_code == 200
            clock.advance(seconds=1)
            assert (await log_in_on(api, "ada", token, PASSWORD)).status_code == 200
            assert standing(await log_in_on(api, "ada", token, WRONG))["log-in-device"] == 2

    async def test_has_its_own_rate_when_that_of_its_address_is_used_up(self, start: Start) -> None:
        async with start(limit_anonymous="4/60") as api:
            await api.sign_up("ada")
            token = await device_token(api, "ada")
            await fail(api, 2, "somebody-else")
            refused(await log_in(api, "ada", PASSWORD), 429, "rate_limited")
            for _ in range(4):
                assert (await log_in_on(api, "ada", token, PASSWORD)).status_code == 200
            refused(await log_in_on(api, "ada", token, PASSWORD), 429, "rate_limited")

    async def test_is_recorded_like_any_other(self, start: Start, database: Any) -> None:
        async with start(**FEW) as api:
            await api.sign_up("ada")
            await log_in_on(api, "ada", await device_token(api, "ada"), WRONG)
        actions = rows(database, "SELECT action, details FROM audit_entries ORDER BY id DESC LIMIT 1")
        assert actions == [{"action": "log_in_failed", "details": "{}"}]

    async def test_of_another_user_does_not_count_as_known(self, start: Start, clock: Clock) -> None:
        async with start(**FEW | {"throttle_address_tries": 0, "limit_anonymous": "off"}) as api:
            for name in ("ada", "eve"):
                await api.sign_up(name)
            token = await device_token(api, "eve")
            for _ in range(4):
                known, unknown = [await log_in_on(api, name, token, WRONG) for name in ("ada", "nobody")]
                plain = await log_in(api, "somebody")
                assert masked(known) == masked(unknown) == masked(plain)
                for answer in (known, unknown, plain):
                    del answer.headers["x-request-id"]
                assert known.headers == unknown.headers == plain.headers
            limited(known, "log-in-account", 1)

    @pytest.mark.parametrize("token", ["", "x", "x.y", "y" * 1024])
    async def test_with_an_invalid_token_is_like_one_without(self, start: Start, clock: Clock, token: str) -> None:
        async with start(**FEW) as api:
            await api.sign_up("ada")
            for _ in range(3):
                refused(await log_in_on(api, "ada", token, WRONG), 401, "unauthenticated")
            limited(await log_in_on(api, "ada", token, PASSWORD), "log-in-account", 1)

    async def test_ends_with_a_new_password_but_not_with_a_log_out(self, start: Start, clock: Clock) -> None:
        async with start(**FEW) as api:
            ada = await api.sign_up("ada")
            token = await device_token(api, "ada")
            assert (await ada.post("/logout")).status_code == 204
            answer = await log_in_on(api, "ada", token, PASSWORD)
            assert "log-in-device" in standing(answer)
            ada.token = answer.json()["access_token"]
            new = "another horse battery"
            changed = await ada.post("/users/me/password", {"current_password": PASSWORD, "new_password": new})
            assert changed.status_code == 204
            answer = await log_in_on(api, "ada", token, new)
            assert "log-in-device" not in standing(answer)
            assert "log-in-device" in standing(await log_in_on(api, "ada", answer.json()["device_token"], new))

    async def test_keeps_its_token_when_the_cost_of_hashing_is_raised(self, start: Start, clock: Clock) -> None:
        async with start(**FEW) as api:
            await api.sign_up("ada")
        async with start(**FEW, password_hash_rounds=5) as api:
            token = await device_token(api, "ada")  # this log-in stores a stronger hash
            assert "log-in-device" in standing(await log_in_on(api, "ada", token, PASSWORD))


async def device_token(api: Api, name: str) -> str:
    """Log a user in, and return the token of the device."""
    answer = await log_in(api, name, PASSWORD)
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["device_token"]
    return token


async def log_in_on(api: Api, name: str, token: str, password: str) -> httpx2.Response:
    """Try to log in with a device token."""
    form = {"username": f"{name}@example.com", "password": password, "device_token": token}
    return await api.client.post("/login", data=form)
