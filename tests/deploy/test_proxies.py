"""Giro behind the proxies of deploy/: TLS, the client's address, the longest wait, and blocked requests."""

import re
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

import core
from core.settings import Settings
from tests.deploy.programs import program
from tests.flows.stack import PASSWORD, Client, Stack, free_port
from tests.waiting import eventually

pytestmark = [pytest.mark.whole_service, pytest.mark.proxy]

DEPLOY = Path(core.__file__).parent.parent / "deploy"
CLIENT = "127.0.0.5"
"""The clients' address: also loopback, but different from the proxies' address."""

PROXY = "127.0.0.1"
MADE_UP = "192.0.2.66"
LONGEST_WAIT = Settings.model_fields["wait_seconds"].default

CADDY_HERE = """{
    admin off
    default_bind 127.0.0.1
    skip_install_trust
    auto_https disable_redirects
    servers {
        protocols h1 h2
    }
}
"""
NGINX_HERE = """
daemon off;
master_process off;
pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
    include giro.conf;
}
"""


# --- running the proxies -----------------------------------------------------------------------------------------


def run_caddy(folder: Path, port: int, upstream: str) -> tuple[list[str], Path]:
    (folder / "Caddyfile").write_text(CADDY_HERE + (DEPLOY / "caddy" / "Caddyfile").read_text())
    command = ["env", f"GIRO_SITE=https://localhost:{port}", f"GIRO_API={upstream}"]
    command += [f"XDG_DATA_HOME={folder}", f"XDG_CONFIG_HOME={folder}", program("caddy", "caddy")]
    return [*command, "run", "--config", str(folder / "Caddyfile")], folder / "caddy/pki/authorities/local/root.crt"


def run_nginx(folder: Path, port: int, upstream: str) -> tuple[list[str], Path]:
    certificate, key = folder / "fullchain.pem", folder / "privkey.pem"
    openssl = [program("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    openssl += ["-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*openssl, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    text = (DEPLOY / "nginx" / "giro.conf").read_text()
    for of_the_bank, here in {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
        "server 127.0.0.1:8000;": f"server {upstream};",
        "/etc/ssl/giro/fullchain.pem": str(certificate),
        "/etc/ssl/giro/privkey.pem": str(key),
    }.items():
        assert text.count(of_the_bank) == 1, of_the_bank
        text = text.replace(of_the_bank, here)
    (folder / "giro.conf").write_text(text)
    (folder / "nginx.conf").write_text(NGINX_HERE)
    command = [program("nginx", "nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", str(folder / "error.log")]
    return command, certificate


PROXIES = {"caddy": run_caddy, "nginx": run_nginx}


@contextmanager
def proxy(name: str, folder: Path, stack: Stack) -> Iterator[httpx2.Client]:
    """Run a proxy in front of a service, and yield a client of the proxy, with verified TLS."""
    folder.mkdir()
    port = free_port()
    command, authority = PROXIES[name](folder, port, f"127.0.0.1:{stack.port}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        eventually(lambda: process.poll() is not None or authority.exists())
        context = ssl.create_default_context(cafile=authority)
        transport = httpx2.HTTPTransport(verify=context, local_address=CLIENT)
        with httpx2.Client(transport=transport, base_url=f"https://localhost:{port}", timeout=90) as client:
            eventually(lambda: process.poll() is not None or answers(client))
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            yield client
    finally:
        process.terminate()
        process.wait(15)


def answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/health/live").status_code == 200
    except httpx2.TransportError:
        return False


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that trusts proxies on its own machine, with defaults otherwise."""
    stack = Stack(tmp_path_factory.mktemp("stack"), measured=False, trusted_proxies=PROXY)
    try:
        yield stack.start()
    finally:
        stack.close()


@pytest.fixture(params=PROXIES)
def through(request: pytest.FixtureRequest, tmp_path: Path, stack: Stack) -> Iterator[httpx2.Client]:
    """A client of the service behind each proxy in turn."""
    with proxy(request.param, tmp_path / request.param, stack) as client:
        yield client


def addresses(stack: Stack, action: str) -> set[str]:
    """Return the client addresses of an action in the audit log."""
    lines = stack.giro("operator", "audit", "--limit", "1000", "--action", action).stdout
    return set(re.findall(r"\b(?:127\.0\.0\.\d+|192\.0\.2\.\d+)\b", lines))


# --- the tests ---------------------------------------------------------------------------------------------------


def test_customer_pays_over_tls_and_the_audit_log_has_the_address(
    stack: Stack, through: httpx2.Client, request: pytest.FixtureRequest
) -> None:
    email = f"{request.node.callspec.id}@example.com"
    forged = {"X-Forwarded-For": MADE_UP, "X-Real-IP": MADE_UP, "Forwarded": f"for={MADE_UP}"}
    signed_up = through.post("/signup", json={"email": email, "password": PASSWORD}, headers=forged)
    assert (signed_up.status_code, signed_up.headers["location"]) == (201, "/users/me")
    assert signed_up.headers["strict-transport-security"] == "max-age=31536000"
    tokens = through.post("/login", data={"username": email, "password": PASSWORD}, headers=forged).json()
    person = Client(stack, {"Authorization": f"Bearer {tokens['access_token']}"})
    payer, payee = person.open_account(500), person.open_account()
    body = {"from_account_id": payer, "to_account_id": payee, "amount": 200}
    paid = through.post("/transfers", json=body, headers=person.headers | forged | {"Prefer": "wait=30"})
    assert (paid.status_code, paid.json()["status"]) == (200, "completed")
    assert addresses(stack, "logged_in") == {CLIENT}


def test_only_the_api_is_behind_the_proxy(through: httpx2.Client) -> None:
    assert through.get("/health/ready").json()["status"] == "ok"
    assert through.get("/metrics").json()["code"] == "not_found"


def test_service_refuses_large_bodies_and_proxy_refuses_huge_ones(through: httpx2.Client) -> None:
    refused = through.post("/signup", content=b" " * 3_000_000, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.headers["content-type"]) == (413, "application/problem+json")
    assert refused.json()["code"] == "body_too_large"
    # The answer comes from the proxy, not from the service; Caddy 2.6 answers 502.
    too_large = b" " * (4 * 1024 * 1024 + 1)
    answer = through.post("/signup", content=too_large, headers={"Content-Type": "application/json"})
    assert (answer.status_code in (413, 502), "problem" in answer.headers.get("content-type", "")) == (True, False)


@pytest.fixture
def distrustful(tmp_path: Path) -> Iterator[Stack]:
    """The API alone, without a worker, so that nothing settles. By default it trusts no proxy."""
    (tmp_path / "distrustful").mkdir()
    stack = Stack(tmp_path / "distrustful", measured=False)
    try:
        assert stack.giro("migrate").returncode == 0
        process = stack.run("api")
        eventually(lambda: process.poll() is not None or stack_answers(stack))
        assert process.poll() is None, stack.log_text("api")[-3000:]
        yield stack
    finally:
        stack.close()


def stack_answers(stack: Stack) -> bool:
    return answers(stack.client)


def test_longest_wait_works_and_untrusted_proxy_is_the_client(distrustful: Stack, tmp_path: Path) -> None:
    person = distrustful.sign_up()
    payer, payee = person.open_account(), person.open_account()
    assert distrustful.giro("operator", "limit", payer, "1000").returncode == 0
    body = {"from_account_id": payer, "to_account_id": payee, "amount": 100}

    def pay(name: str) -> httpx2.Response:
        with proxy(name, tmp_path / name, distrustful) as client:
            credentials = {"username": f"{name}@example.com", "password": PASSWORD}
            client.post("/login", data=credentials, headers={"X-Forwarded-For": MADE_UP})
            return client.post("/transfers", json=body, headers=person.headers | {"Prefer": f"wait={LONGEST_WAIT}"})

    with ThreadPoolExecutor(len(PROXIES)) as pool:
        for answer in pool.map(pay, PROXIES):
            assert (answer.status_code, answer.json()["status"]) == (202, "pending")
            assert answer.elapsed.total_seconds() >= LONGEST_WAIT
    assert addresses(distrustful, "log_in_failed") == {PROXY}
    (line,) = distrustful.logged("forwarded_for_ignored", "api")
    assert line["proxy"] == PROXY
