"""Settings: their sources, their valid values, and the one-line message for an invalid one."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from core.domain.statements import BankDetails
from core.security.secrets import Secrets
from core.security.token_keys import TokenKeys
from core.settings import Settings, SettingsError, load_settings, variable
from core.settings.groups.queue import UNIX_SOCKET_PATH_MAX
from tests.unit.settings.complaints import complaint

LONG_SECRET = "x" * 32


@pytest.fixture(autouse=True)
def _clean(clean_environment: pytest.MonkeyPatch) -> None:
    """Every test here starts without variables, in an empty folder."""


# --- the bank ----------------------------------------------------------------------------------------------------


def test_the_bank_has_a_name_and_counts_months_in_utc_by_default() -> None:
    settings = load_settings()
    assert settings.bank == BankDetails(name="Giro", address=None, bic=None)
    assert settings.zone == ZoneInfo("UTC")


def test_the_banks_details_and_time_zone_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIRO_BANK_NAME", "Bank of Ada")
    monkeypatch.setenv("GIRO_BANK_ADDRESS", "1 Main Street, Townsville")
    monkeypatch.setenv("GIRO_BANK_BIC", "GIRODEFFXXX")
    monkeypatch.setenv("GIRO_TIME_ZONE", "Europe/Berlin")
    settings = load_settings()
    assert settings.bank == BankDetails(name="Bank of Ada", address="1 Main Street, Townsville", bic="GIRODEFFXXX")
    assert settings.zone == ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize("name", ["Mars/Olympus", "Europe", "../UTC", "/etc/localtime", "CEST+1", "Europe/Berlin "])
def test_an_unknown_time_zone_is_rejected(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("GIRO_TIME_ZONE", name)
    assert complaint() == "GIRO_TIME_ZONE: must be a time zone of the IANA database, like Europe/Berlin"


@pytest.mark.parametrize("bic", ["GIRODEF", "girodeff", "GIRODEFFXX", "G1RO99FF", "GIRODEFFXXXX", "GIRO DEFF"])
def test_an_invalid_bic_is_rejected(monkeypatch: pytest.MonkeyPatch, bic: str) -> None:
    monkeypatch.setenv("GIRO_BANK_BIC", bic)
    assert complaint().startswith("GIRO_BANK_BIC: ")


# --- browsers of other origins ---


def test_by_default_no_other_origin_is_allowed() -> None:
    assert load_settings().cors_origins == ""


@pytest.mark.parametrize(
    "origins",
    [
        "https://bank.example.com",
        "http://localhost:5173",
        "https://a.example,https://b.example:8443",
        "https://[::1]:8",
    ],
)
def test_origins_are_accepted_in_the_form_that_browsers_send(monkeypatch: pytest.MonkeyPatch, origins: str) -> None:
    monkeypatch.setenv("GIRO_CORS_ORIGINS", origins.replace(",", " , "))
    assert load_settings().cors_origins == origins


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "https://*", "https://*.example.com", "bank.example.com", "https://bank.example.com/"),
        *("https://Bank.example.com", "https://a@bank.example.com", "ftp://bank.example.com", "https://"),
        *("https://bank.example.com:443", "http://bank.example.com:80", "https://bank.example.com:0", "file://"),
        *("https://a.example;https://b.example", "https://a.example?x", "https://a.example\u0430", "HTTPS://a.example"),
    ],
)
def test_an_inexact_origin_is_rejected(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    monkeypatch.setenv("GIRO_CORS_ORIGINS", f"https://good.example,{origin}")
    assert complaint().startswith("GIRO_CORS_ORIGINS: ")


# --- sources of values ---


def test_the_defaults_work_without_any_setting() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.data_dir) == ("127.0.0.1", 8000, Path("data"))
    assert settings.database_url == "sqlite+aiosqlite:///data/banking.db"
    assert (settings.redis_url, settings.jwt_secret, settings.sentry_dsn) == (None, None, None)
    assert set(settings.sources().values()) == {"default"}


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_variables_have_the_prefix_except_for_five_common_names() -> None:
    names = {variable(name) for name in Settings.model_fields}
    assert {name for name in names if not name.startswith("GIRO_")} == {
        "DATABASE_URL",
        "REDIS_URL",
        "REDIS_PASSWORD",
        "JWT_SECRET",
        "SENTRY_DSN",
    }
    assert {"GIRO_HOST", "GIRO_PORT", "GIRO_DATA_DIR"} <= names


def test_the_environment_has_precedence_over_the_dotenv_file_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("GIRO_PORT=8001\nGIRO_HOST=0.0.0.0\nREDIS_URL=redis://elsewhere:1\n")
    monkeypatch.setenv("GIRO_PORT", "8002")
    settings = load_settings()
    assert (settings.port, settings.host, settings.log_level) == (8002, "0.0.0.0", "info")
    assert Secrets(settings).queue_url() == "redis://elsewhere:1"
    sources = settings.sources()
    assert {sources[name] for name in ("port",)} == {"environment"}
    assert {sources[name] for name in ("host", "redis_url")} == {".env"}
    assert sources["log_level"] == sources["database_url"] == "default"


def test_variables_without_the_prefix_have_their_sources_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", LONG_SECRET)
    monkeypatch.setenv("DATABASE_URL", "sqlite+aiosqlite:///elsewhere.db")
    sources = load_settings().sources()
    assert (sources["jwt_secret"], sources["database_url"]) == ("environment", "environment")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIRO_PORT", "REDIS_URL", "JWT_SECRET"):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert (settings.port, settings.redis_url, settings.jwt_secret) == (8000, None, None)


def test_the_database_moves_with_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GIRO_DATA_DIR", str(tmp_path / "elsewhere"))
    settings = load_settings()
    assert settings.database_path == tmp_path / "elsewhere" / "banking.db"
    assert settings.run_dir == tmp_path / "elsewhere" / "run"


def test_the_path_of_the_database_is_absolute(tmp_path: Path) -> None:
    assert load_settings().database_path == tmp_path / "data" / "banking.db"


def test_settings_never_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1


def test_secrets_are_masked_when_settings_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("JWT_SECRET", LONG_SECRET),
        ("REDIS_URL", "redis://:hunter2@somewhere"),
        ("SENTRY_DSN", "https://hunter2@somewhere/1"),
    ):
        monkeypatch.setenv(name, value)
    shown = repr(load_settings()) + "".join(str(value) for _, value in load_settings())
    assert "hunter2" not in shown
    assert LONG_SECRET not in shown


# --- trusted proxies ---------------------------------------------------------------------------------------------


def test_the_bank_is_named_without_bidirectional_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIRO_BANK_NAME", "The \u202eBank")
    monkeypatch.setenv("GIRO_BANK_ADDRESS", "1 \u2066Street")
    bank = load_settings().bank
    assert (bank.name, bank.address) == ("The Bank", "1 Street")


def test_no_proxy_is_trusted_by_default() -> None:
    assert Settings(_env_file=None).trusted_proxies == ""


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("", ""),
        (" ", ""),
        ("10.0.0.0/8, 192.168.1.7 ,fd00::/8,::1", "10.0.0.0/8,192.168.1.7,fd00::/8,::1"),
    ],
)
def test_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch, value: str, kept: str) -> None:
    monkeypatch.setenv("GIRO_TRUSTED_PROXIES", value)
    assert load_settings().trusted_proxies == kept


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("*", "'*' is not an address or a network, like 127.0.0.1 or 10.0.0.0/8"),
        ("10.0.0.1/8", "'10.0.0.1/8' is not an address or a network"),
        ("10.0.0.256", "'10.0.0.256' is not an address"),
        ("127.0.0.1,", "'' is not an address"),
        ("127.0.0.1 10.0.0.1", "'127.0.0.1 10.0.0.1' is not an address"),
        ("proxy.example.com", "'proxy.example.com' is not an address"),
        ("0.0.0.0/0", "0.0.0.0/0 matches every client, so every client could claim any address"),
        ("127.0.0.1,::/0", "::/0 matches every client"),
    ],
)
def test_an_invalid_proxy_is_rejected(monkeypatch: pytest.MonkeyPatch, value: str, words: str) -> None:
    monkeypatch.setenv("GIRO_TRUSTED_PROXIES", value)
    assert complaint().startswith(f"GIRO_TRUSTED_PROXIES: {words}")


# --- invalid settings ---


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("GIRO_PORT", "many", "valid integer"),
        ("GIRO_PORT", "65536", "less than or equal to 65535"),
        ("GIRO_PORT", "-1", "greater than or equal to 0"),
        ("GIRO_METRICS_PORT_API", "70000", "less than or equal to 65535"),
        ("GIRO_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("GIRO_LOG_FORMAT", "xml", "'auto', 'json' or 'console'"),
        ("GIRO_IDEMPOTENCY_KEY_REQUIRED", "perhaps", "valid boolean"),
        ("GIRO_PASSWORD_HASH_ROUNDS", "3", "greater than or equal to 4"),
        ("GIRO_PASSWORD_HASH_ROUNDS", "17", "less than or equal to 16"),
        ("GIRO_ACCESS_TOKEN_SECONDS", "86401", "less than or equal to 86400"),
        ("GIRO_INTAKE_WAITING", "0", "greater than or equal to 1"),
        ("GIRO_BODY_SECONDS", "0", "greater than 0"),
        ("GIRO_SWEEP_SECONDS", "soon", "valid number"),
        ("GIRO_SWEEP_SECONDS", "nan", ""),
        ("GIRO_BODY_SECONDS", "inf", ""),
        ("JWT_SECRET", "x" * 31, "at least 32 bytes"),
        ("REDIS_URL", "http://somewhere", "must start with redis://, rediss:// or unix://"),
        ("REDIS_URL", "somewhere:6379", "must start with redis://"),
    ],
)
def test_an_invalid_value_is_reported_in_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    message = complaint()
    assert message.startswith(f"{name}: ")
    assert words in message


def test_two_parts_on_one_port_are_rejected_with_the_names_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIRO_PORT", "9103")
    assert complaint() == "GIRO_PORT and GIRO_METRICS_PORT_JOBS are both 9103; each needs its own"
    monkeypatch.setenv("GIRO_PORT", "8000")
    monkeypatch.setenv("GIRO_METRICS_PORT_SCHEDULER", "9101")
    assert complaint() == "GIRO_METRICS_PORT_API and GIRO_METRICS_PORT_SCHEDULER are both 9101; each needs its own"


def test_two_parts_can_both_have_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API", "SETTLEMENT", "JOBS", "SCHEDULER"):
        monkeypatch.setenv(f"GIRO_METRICS_PORT_{name}", "0")
    assert load_settings().metrics_port_jobs == 0


def test_an_invalid_value_in_the_dotenv_file_is_named_too() -> None:
    Path(".env").write_text("GIRO_PORT=many\n")
    assert complaint().startswith("GIRO_PORT: ")


def signing_key(**given: Any) -> str:
    return TokenKeys(Secrets(load_settings(**given))).ring().signing.secret


def test_an_invalid_secret_is_not_repeated_in_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", "hunter2")
    assert "hunter2" not in complaint()


def test_a_secret_of_32_bytes_in_fewer_characters_is_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", "ü" * 16)
    assert signing_key() == "ü" * 16


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://somewhere/bank",
        "sqlite:///./data/banking.db",
        "sqlite+pysqlite:///./data/banking.db",
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///",
        "sqlite+aiosqlite:///:memory:",
        "./data/banking.db",
        "no url at all",
    ],
)
def test_a_database_that_is_not_an_sqlite_file_is_rejected(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert complaint().startswith("DATABASE_URL ")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite+aiosqlite:////srv/bank.db", Path("/srv/bank.db")),
        ("sqlite+aiosqlite:///bank.db", Path("bank.db")),
        ("sqlite+aiosqlite:///./a folder/bank.db", Path("a folder/bank.db")),
    ],
)
def test_a_database_can_be_any_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert load_settings().database_path == tmp_path / path


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("GIRO_PROT", "; did you mean GIRO_PORT?"),
        ("GIRO_DATABASE_URL", "; did you mean DATABASE_URL?"),
        ("GIRO_LOGLEVEL", "; did you mean GIRO_LOG_LEVEL?"),
        ("GIRO_ZZZZZZZZZZZZ", ""),
    ],
)
def test_an_unknown_variable_stops_the_start_and_the_most_similar_one_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, hint: str
) -> None:
    monkeypatch.setenv(name, "1")
    assert complaint() == f"{name} is not a setting{hint}"


def test_an_unknown_variable_in_the_dotenv_file_stops_the_start_too() -> None:
    Path(".env").write_text("GIRO_PROT=1\nSOMEBODY_ELSES=1\n")
    assert complaint() == "GIRO_PROT is not a setting; did you mean GIRO_PORT?"


def test_variables_of_other_programs_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIROSCOPE", "1")
    load_settings()


# --- the queue ---------------------------------------------------------------------------------------------------


def test_without_a_queue_url_the_queue_is_the_socket_of_the_embedded_server(tmp_path: Path) -> None:
    settings = load_settings(data_dir=Path("data"))
    assert Secrets(settings).queue_url() == f"unix://{settings.embedded_queue_socket}"
    assert settings.embedded_queue_socket == tmp_path / "data" / "run" / "valkey.sock"


@pytest.mark.parametrize("url", ["redis://somewhere:6379/3", "rediss://somewhere", "unix:///run/valkey.sock"])
def test_a_given_queue_url_is_used(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert Secrets(load_settings()).queue_url() == url


def socket_in(folder: Path) -> Path:
    return load_settings(data_dir=folder).embedded_queue_socket


def test_a_socket_whose_path_is_too_long_moves_out_of_the_data_folder() -> None:
    room = UNIX_SOCKET_PATH_MAX - len("//run/valkey.sock")
    fits, too_long = Path("/" + "x" * room), Path("/" + "x" * (room + 1))
    assert socket_in(fits) == fits / "run" / "valkey.sock"
    moved = socket_in(too_long)
    assert len(os.fsencode(moved)) <= UNIX_SOCKET_PATH_MAX
    assert moved == socket_in(too_long), "every process finds the same socket"
    assert moved != socket_in(Path("/" + "y" * (room + 1))), "no two data folders share a socket"


def test_the_length_of_a_socket_path_counts_in_bytes() -> None:
    folder = Path("/" + "ü" * 60)
    assert socket_in(folder).parent != folder / "run"


# --- the signing key ---------------------------------------------------------------------------------------------


def test_a_signing_key_is_made_once_and_only_the_owner_can_read_it() -> None:
    key = signing_key()
    kept = Path("data/secrets/jwt_secret")
    assert len(key.encode()) >= 32
    assert kept.read_text() == key
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert signing_key() == key
    assert [item.name for item in kept.parent.iterdir()] == ["jwt_secret"]


def test_two_data_folders_have_two_signing_keys() -> None:
    assert signing_key(data_dir=Path("one")) != signing_key(data_dir=Path("two"))


def test_a_given_signing_key_is_used_and_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", LONG_SECRET)
    assert signing_key() == LONG_SECRET
    assert not Path("data").exists()


def test_a_stored_key_that_is_too_short_is_never_used() -> None:
    Path("data/secrets").mkdir(parents=True)
    Path("data/secrets/jwt_secret").touch()
    with pytest.raises(SettingsError, match="jwt_secret"):
        signing_key()


def test_processes_that_make_the_signing_key_at_once_all_read_the_same() -> None:
    copies = [load_settings() for _ in range(8)]
    start = Barrier(len(copies))

    def key_of(settings: Settings) -> str:
        start.wait()
        return TokenKeys(Secrets(settings)).ring().signing.secret

    with ThreadPoolExecutor(len(copies)) as pool:
        assert len(set(pool.map(key_of, copies))) == 1
    assert [item.name for item in Path("data/secrets").iterdir()] == ["jwt_secret"]


# --- the queue's password ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("redis://redis:6379/0", "redis://:p%40ss%2Fw%3Ard@redis:6379/0"),
        ("rediss://giro@redis", "rediss://giro:p%40ss%2Fw%3Ard@redis"),
        ("redis://:other@redis:6379", "redis://:other@redis:6379"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_the_queues_password_is_added_to_a_url_without_one(
    monkeypatch: pytest.MonkeyPatch, url: str, opened: str
) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    monkeypatch.setenv("REDIS_PASSWORD", "p@ss/w:rd")
    assert Secrets(load_settings()).queue_url() == opened


def test_the_queues_password_is_made_once_if_it_has_a_file_but_no_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "secrets" / "redis" / "password"
    monkeypatch.setenv("REDIS_URL", "redis://redis")
    monkeypatch.setenv("GIRO_REDIS_PASSWORD_FILE", str(path))
    made = Secrets(load_settings()).queue_url()
    assert made == f"redis://:{path.read_text().strip()}@redis"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Secrets(load_settings()).queue_url() == made
    monkeypatch.setenv("REDIS_PASSWORD", "given")
    assert Secrets(load_settings()).queue_url() == "redis://:given@redis"
