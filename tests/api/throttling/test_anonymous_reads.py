"""Reads without a token: limited by a rate for each client network, and never limited for the machine itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from core.processes.healthcheck import complaint
from core.processes.run import _missing
from tests.api.conftest import Api, Start
from tests.api.throttling.test_rates_and_guesses import from_address, limited, standing
from tests.time_travel import Clock

STRANGER = "203.0.113.9"
PATHS = (
    "/",
    "/health",
    "/health/live",
    "/health/ready",
    "/docs",
    "/docs/errors",
    "/docs/oauth2-redirect",
    "/docs/assets/swagger-ui.css",
    "/openapi.json",
)


class TestAStranger:
    async def test_has_its_own_rate_on_each_route(self, start: Start, clock: Clock) -> None:
        async with start(limit_anonymous_reads="2/60") as api, from_address(api, STRANGER) as stranger:
            for path in PATHS:
                assert standing(await stranger.get(path)) == {"anonymous-reads": 1}, path
                assert (await stranger.head(path)).status_code == 200, path
                limited(await stranger.get(path), "anonymous-reads", 30)
            async with from_address(api, "203.0.113.10") as other:
                assert (await other.get("/health/live")).status_code == 200
            clock.advance(seconds=30)
            assert (await stranger.get("/health/live")).status_code == 200

    async def test_has_one_count_for_all_assets(self, start: Start, clock: Clock) -> None:
        async with start(limit_anonymous_reads="2/60") as api, from_address(api, STRANGER) as stranger:
            for name in ("swagger-ui.css", "none.css"):
                await stranger.get(f"/docs/assets/{name}")
            limited(await stranger.get("/docs/assets/favicon.png"), "anonymous-reads", 30)

    async def test_may_send_twenty_requests_a_second_by_default(self, api: Api, clock: Clock) -> None:
        async with from_address(api, STRANGER) as stranger:
            answer = await stranger.get("/health/ready")
            assert answer.headers["ratelimit-policy"] == '"anonymous-reads";q=200;w=10'
            for _ in range(100):
                assert standing(await stranger.get("/health/ready"))["anonymous-reads"] >= 198
                clock.advance(seconds=0.05)

    async def test_can_log_in_even_after_many_reads(self, start: Start, clock: Clock) -> None:
        async with start(limit_anonymous_reads="1/60") as api, from_address(api, STRANGER) as stranger:
            await stranger.get("/")
            limited(await stranger.get("/"), "anonymous-reads", 60)
            answer = await stranger.post("/login", data={"username": "ada@example.com", "password": "x" * 12})
            assert answer.status_code == 401

    async def test_is_not_limited_if_the_setting_is_off(self, start: Start) -> None:
        async with start(limit_anonymous_reads="off") as api, from_address(api, STRANGER) as stranger:
            assert "ratelimit" not in (await stranger.get("/health/live")).headers


class TestTheMachineItself:
    @pytest.mark.parametrize(
        ("address", "server"),
        [("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "127.0.0.1"), ("::1", "[::1]"), (STRANGER, STRANGER)],
    )
    async def test_reads_without_a_limit(self, start: Start, clock: Clock, address: str, server: str) -> None:
        async with start(limit_anonymous_reads="1/60") as api, from_address(api, address) as client:
            for path in PATHS:
                for _ in range(3):
                    answer = await client.get(f"http://{server}{path}")
                    assert (answer.status_code, "ratelimit" in answer.headers) == (200, False), path

    @pytest.mark.parametrize(("trusted", "other_is_another"), [("127.0.0.1", True), ("192.0.2.1", False)])
    async def test_is_distinguished_from_the_clients_of_its_proxy(
        self, start: Start, clock: Clock, trusted: str, other_is_another: bool
    ) -> None:
        """Also if the proxy is not trusted: then all its clients have the proxy's address."""
        async with start(limit_anonymous_reads="1/60") as api, from_address(api, "127.0.0.1", trusted) as proxy:
            one, other = ({"X-Forwarded-For": address} for address in (STRANGER, "127.0.0.1"))
            assert (await proxy.get("/health/ready", headers=one)).status_code == 200
            limited(await proxy.get("/health/ready", headers=one), "anonymous-reads", 60)
            answer = await proxy.get("/health/ready", headers=other)
            assert answer.status_code == (200 if other_is_another else 429)
            assert (await proxy.get("/health/ready")).status_code == 200, "the supervisor connects without a proxy"

    async def test_includes_the_supervisor_and_the_health_check(
        self, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with start(limit_anonymous_reads="1/3600") as api, served(api) as port:
            monkeypatch.setenv("GIRO_PORT", str(port))
            monkeypatch.setenv("GIRO_DATA_DIR", str(api.runtime.settings.data_dir))
            settings = api.runtime.settings.model_copy(update={"port": port})
            with httpx2.Client(trust_env=False) as supervisor:
                for _ in range(3):
                    assert await asyncio.to_thread(_missing, supervisor, settings) is None
                    assert await asyncio.to_thread(complaint) is None


@asynccontextmanager
async def served(api: Api) -> AsyncIterator[int]:
    """Serve the application as uvicorn does, on its own port."""
    config = Config(api.app, lifespan="off", ws="none", log_config=None, access_log=False)
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: HttpToolsProtocol(config, ServerState(), {}, loop), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
