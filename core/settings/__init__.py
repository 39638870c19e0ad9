"""Every setting, its default and what it means.

Values come from the environment, then from `.env`, then from files of secrets, then from here.
"""

import difflib
import os
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from core import failpoints
from core.domain.statements import BankDetails
from core.settings.secret_files import SecretFileError, SecretFiles, secret_file
from core.settings.types import CardKeysText, Origins, Port, Proxies, RateText, Secret, TimeZone, TokenKeysText

PREFIX = "GIRO_"
PORTS = ("port", "metrics_port_api", "metrics_port_settlement", "metrics_port_jobs", "metrics_port_scheduler")
"""The settings that are ports to listen on."""

UNIX_SOCKET_PATH_MAX = 100
"""Bytes; the kernel's own bound is 104 on macOS and 108 on Linux, the final NUL included."""

OF_COMPOSE = {"GIRO_UID", "GIRO_GID", "GIRO_PUBLISH", "GIRO_IMAGE"}
"""Read by docker-compose.yml, from the same `.env`; a test holds them to that file."""


class SettingsError(Exception):
    """A setting that Giro cannot start with; the message is one line for the person who set it."""


class Settings(BaseSettings):
    """The settings of one Giro.

    `DATABASE_URL`, `REDIS_URL`, `REDIS_PASSWORD`, `JWT_SECRET` and `SENTRY_DSN` keep their usual names.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        env_ignore_empty=True,
        allow_inf_nan=False,
    )

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: Port = Field(8000, description="Port that the API listens on.")
    api_processes: int = Field(
        1, ge=1, le=64, description="Processes that serve the API, on one port. More pay on machines with many cores."
    )
    trusted_proxies: Proxies = Field(
        "127.0.0.1",
        description="Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed: addresses or networks, "
        "comma separated.",
    )
    cors_origins: Origins = Field(
        "",
        description="Origins whose pages may call the API from a browser, comma separated, as in "
        "https://bank.example.com. Default: none.",
    )
    hsts_seconds: int = Field(
        31_536_000,
        ge=0,
        description="Time for which browsers that came over TLS never try plain HTTP again. 0: nothing is said of it.",
    )
    docs: bool = Field(True, description="Serve `/docs` and `/openapi.json`.")
    data_dir: Path = Field(
        Path("./data"), description="Folder of the database, of secrets made here, and of sockets and locks."
    )
    database_url: str = Field(
        "",
        validation_alias="DATABASE_URL",
        description="The database. Default: `banking.db` in the data folder "
        "(`sqlite+aiosqlite:///./data/banking.db`). SQLite only.",
    )
    redis_url: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="The queue server (`redis://`, `rediss://` or `unix://`). "
        "Without it Giro starts its own Valkey on a socket in the data folder.",
    )
    redis_password: SecretStr | None = Field(
        None,
        validation_alias="REDIS_PASSWORD",
        description="Password of the queue server, where `REDIS_URL` has none.",
    )
    redis_password_file: Path | None = Field(
        None,
        description="File with that password, for where it is not set. `giro migrate` makes a missing one (mode 0600).",
    )
    jwt_secret: TokenKeysText | None = Field(
        None,
        validation_alias="JWT_SECRET",
        description="Key that signs access tokens, at least 32 bytes; or several, as `version:secret`, comma "
        "separated, newest first. Without it one is made at random and kept in the data folder (mode 0600).",
    )
    card_keys: CardKeysText | None = Field(
        None,
        description="Keys that seal card numbers: `version:secret`, comma separated, newest first, each secret at "
        "least 32 bytes. Without it one is made at random and kept in the data folder (mode 0600).",
    )
    card_index_key: Secret | None = Field(
        None,
        description="Key that card numbers are found by and CVCs derived with, at least 32 bytes. It cannot be "
        "changed. Without it one is made at random, once, and kept in the data folder (mode 0600).",
    )
    anchor_key: Secret | None = Field(
        None,
        description="Key that signs anchors of the ledger, at least 32 bytes. Without it one is made at random, once, "
        "and kept in the data folder (mode 0600).",
    )
    sentry_dsn: SecretStr | None = Field(
        None,
        validation_alias="SENTRY_DSN",
        description="Where unhandled exceptions are reported; needs the extra `sentry`.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["json", "console"] = Field(
        "json", description="`json`: one object a line. `console`: for a person's eyes."
    )
    metrics_host: str = Field("127.0.0.1", description="Address of the metrics ports. Keep it off the public network.")
    metrics_port_api: Port = Field(9101, description="Metrics of the API. 0: none.")
    metrics_port_settlement: Port = Field(9102, description="Metrics of the settlement worker. 0: none.")
    metrics_port_jobs: Port = Field(9103, description="Metrics of the jobs worker. 0: none.")
    metrics_port_scheduler: Port = Field(9104, description="Metrics of the scheduler. 0: none.")

    bank_name: str = Field("Giro", min_length=1, max_length=140, description="The bank's name, as statements show it.")
    bank_address: str | None = Field(
        None, max_length=280, description="The bank's address on statements, in one line. Default: none."
    )
    bank_bic: str | None = Field(
        None,
        pattern=r"^[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?$",
        description="The bank's BIC (ISO 9362) on statements. Default: none.",
    )
    time_zone: TimeZone = Field(
        "UTC", description="Time zone whose calendar months statements cover, as in `Europe/Berlin`."
    )

    access_token_seconds: int = Field(900, ge=1, le=86_400, description="Life of an access token.")
    refresh_token_days: int = Field(30, ge=1, le=365, description="Life of a log-in: no refresh reaches beyond it.")
    password_hash_rounds: int = Field(12, ge=4, le=16, description="bcrypt cost: log2 of its rounds.")
    password_hash_threads: int = Field(2, ge=1, le=64, description="Passwords hashed at once, at most.")
    password_hash_waiting: int = Field(
        16, ge=0, le=10_000, description="Passwords that may wait to be hashed; one more is answered 503."
    )
    idempotency_key_required: bool = Field(False, description="Refuse a transfer that has no Idempotency-Key header.")
    accounts_per_user: int = Field(1000, ge=1, le=100_000, description="Accounts that one person can hold.")

    cards_per_account: int = Field(
        20, ge=1, le=1000, description="Cards that one account can have, cancelled ones not counted."
    )
    card_years: int = Field(4, ge=1, le=20, description="Years after which a card expires, at the end of its month.")

    throttle_account_tries: int = Field(
        10,
        ge=0,
        le=1000,
        description="Wrong passwords for one e-mail address, after which each further one has to wait, twice as long "
        "as the one before. 0: never.",
    )
    throttle_address_tries: int = Field(
        50,
        ge=0,
        le=100_000,
        description="The same for failed log-ins, and for refused refresh tokens, of one client address. 0: never.",
    )
    throttle_sign_up_tries: int = Field(
        20,
        ge=0,
        le=100_000,
        description="The same for sign-ups that are refused, as where the address is taken. 0: never.",
    )
    throttle_first_seconds: float = Field(1, ge=0.001, le=3600, description="The first such wait.")
    throttle_longest_seconds: float = Field(900, ge=0.001, le=86_400, description="The longest such wait.")
    limit_transfers: RateText = Field(
        "off",
        description="Requests that one user may send to each route that moves money, as requests/seconds; a batch is "
        "one. `off`: any number.",
    )
    limit_reads: RateText = Field("off", description="The same for routes that read.")
    limit_writes: RateText = Field("1000/10", description="The same for all others that need a token.")
    limit_anonymous: RateText = Field(
        "300/60", description="Requests that one client address may send to each of /signup, /login and /token/refresh."
    )
    limit_anonymous_reads: RateText = Field(
        "200/10", description="The same for each GET that needs no token; programs of this machine are not held."
    )

    body_bytes: int = Field(65_536, ge=1024, description="Largest body of a request.")
    bulk_body_bytes: int = Field(4_194_304, ge=1024, description="Largest body of a batch of transfers.")
    bulk_requests: int = Field(
        8,
        ge=1,
        description="Batches that may be in hand at once, and so in memory, half of them of one user; one more is "
        "answered 503.",
    )
    bulk_pending: int = Field(
        500_000, ge=1, description="Transfers that may wait to be settled; while more do, batches are answered 503."
    )
    url_bytes: int = Field(8192, ge=1024, description="Longest path and query of a request.")
    header_bytes: int = Field(16_384, ge=1024, description="Largest sum of a request's header lines.")
    header_seconds: float = Field(10, gt=0, description="Time in which the head of a request must arrive.")
    body_seconds: float = Field(10, gt=0, description="Time in which the body must arrive.")
    idle_seconds: float = Field(20, gt=0, description="How long a connection is kept for another request.")
    send_seconds: float = Field(
        30, gt=0, description="Time in which a client must take up 16 KiB of its answer, or all that is left of it."
    )
    connections: int = Field(
        2000,
        ge=1,
        description="Connections of an API process. One more takes the place of the one that has had no whole request "
        "in hand for longest; where all have one it is answered 503.",
    )
    wait_seconds: int = Field(30, ge=0, le=300, description="Longest wait that `Prefer: wait=N` is given.")
    wait_poll_seconds: float = Field(
        0.005, gt=0, le=1, description="How often waiting clients' transfers are looked at, all in one look."
    )
    intake_waiting: int = Field(
        2048, ge=1, description="Requests that may wait to be written; one more is answered 503."
    )
    intake_group: int = Field(512, ge=1, le=5000, description="Requests written in one unit of work, at most.")
    intake_seconds: float = Field(
        5, gt=0, description="Time in which a waiting request must be taken up; then it is answered 503."
    )
    shutdown_seconds: float = Field(
        5, gt=0, le=60, description="Time that requests in flight are given when the API stops."
    )

    settlement_batch: int = Field(5000, ge=1, le=50_000, description="Transfers settled in one unit of work, at most.")
    settlement_lock_ms: float = Field(
        2, gt=0, description="Time after which a settlement gives the database up when another writer waits for it."
    )
    statement_group: int = Field(200, ge=1, le=10_000, description="Accounts whose statements one job makes.")
    statement_transactions: int = Field(
        50_000,
        ge=1,
        description="Transactions of a statement that is still given as one document (CSV, PDF, camt.053).",
    )
    documents_waiting: int = Field(
        16, ge=0, le=10_000, description="Documents that may wait to be drawn; one more is answered 503."
    )
    worker_poll_ms: int = Field(
        20, ge=1, le=1000, description="Longest sleep of a worker between two looks at its queue."
    )
    sweep_seconds: float = Field(1, gt=0, le=60, description="How often the scheduler looks for forgotten transfers.")
    sweep_age_seconds: float = Field(
        2, gt=0, le=600, description="A transfer pending for longer is forgotten: the worker is woken for it."
    )
    verify_hours: float = Field(24, gt=0, description="Time between two verifications of the whole ledger.")
    verify_recent_minutes: float = Field(
        15, gt=0, description="Time between two verifications of what is new in the ledger, and of all balances."
    )
    anchor_file: Path | None = Field(
        None,
        description="File that signed hashes of the ledger are appended to. Default: `anchors.jsonl` in the data "
        "folder; it protects more on another machine's disk.",
    )
    anchor_minutes: float = Field(5, gt=0, description="Time between two anchors, if anything was settled.")
    checkpoint_minutes: float = Field(
        10, gt=0, description="Time between two checkpoints that cut the write-ahead log back."
    )
    backup_dir: Path | None = Field(
        None, description="Folder that scheduled backups are kept in. Default: `backups` in the data folder."
    )
    backup_hours: float = Field(24, ge=0, description="Age at which the newest backup is followed by another. 0: none.")
    backup_keep: int = Field(7, ge=1, description="Scheduled backups that are kept.")
    silent_seconds: float = Field(
        20, ge=2, description="A process whose heartbeat is older counts as lost, and the supervisor restarts it."
    )
    disk_free_mb: int = Field(200, ge=0, description="Free disk space below which `/health/ready` says no.")
    sqlite_busy_ms: int = Field(5000, ge=0, description="Time that SQLite waits for its own locks.")
    sqlite_cache_mb: int = Field(
        256, ge=1, description="Page cache of each connection, at most; of the API's reading sessions no more than 8."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, SecretFiles(settings_cls)

    @field_validator("redis_url")
    @classmethod
    def _queue_scheme(cls, url: SecretStr | None) -> SecretStr | None:
        if url and not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return url

    @model_validator(mode="after")
    def _one_database(self) -> Self:
        url = self.database_url or f"sqlite+aiosqlite:///{quote(str(self.data_dir / 'banking.db'))}"
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise ValueError("DATABASE_URL is not a URL like sqlite+aiosqlite:///./data/banking.db") from None
        if parsed.drivername != "sqlite+aiosqlite" or not parsed.database or parsed.database == ":memory:":
            raise ValueError("DATABASE_URL must name a file, as in sqlite+aiosqlite:///./data/banking.db")
        self.__dict__["database_url"] = url
        return self

    @model_validator(mode="after")
    def _a_port_for_each(self) -> Self:
        """Two parts on one port: whichever comes second never starts, while the first looks as if all was well."""
        taken: dict[int, str] = {}
        for name in PORTS:
            port = getattr(self, name)
            if port and (other := taken.setdefault(port, name)) != name:
                raise ValueError(f"{variable(other)} and {variable(name)} are both {port}; each needs its own")
        return self

    @property
    def database_path(self) -> Path:
        """The database file, absolute."""
        database = make_url(self.database_url).database
        assert database is not None, "checked when the settings were read"
        return Path(database).absolute()

    @property
    def bank(self) -> BankDetails:
        """The bank as its statements name it."""
        return BankDetails(name=self.bank_name, address=self.bank_address, bic=self.bank_bic)

    @property
    def zone(self) -> ZoneInfo:
        """The bank's time zone."""
        return ZoneInfo(self.time_zone)

    @property
    def backups_path(self) -> Path:
        """Where backups are kept, absolute."""
        return (self.backup_dir or self.data_dir / "backups").absolute()

    @property
    def run_dir(self) -> Path:
        """Where heartbeats and the embedded queue's socket live."""
        return self.data_dir.absolute() / "run"

    @property
    def embedded_queue_socket(self) -> Path:
        """The socket of the Valkey that Giro starts itself; elsewhere only if the data folder's path is too long."""
        socket = self.run_dir / "valkey.sock"
        if len(os.fsencode(socket)) <= UNIX_SOCKET_PATH_MAX:
            return socket
        name = blake2b(os.fsencode(socket), digest_size=8).hexdigest()
        return Path(tempfile.gettempdir()) / f"giro-{name}.sock"

    @property
    def embedded_queue_url(self) -> str:
        """The URL of that socket."""
        return f"unix://{self.embedded_queue_socket}"

    @property
    def secrets_dir(self) -> Path:
        """Where secrets are stored that are not set (core/security/secrets.py), absolute."""
        return self.data_dir.absolute() / "secrets"

    @property
    def anchor_path(self) -> Path:
        """The file of anchors, absolute."""
        return (self.anchor_file or self.data_dir / "anchors.jsonl").absolute()

    @property
    def erasures_path(self) -> Path:
        """The file of those who were erased, absolute."""
        return self.data_dir.absolute() / "erasures"

    def sources(self) -> dict[str, str]:
        """Say of every setting where its value came from: `environment`, `.env`, the path of a file, or `default`."""
        environment = EnvSettingsSource(type(self))()
        dotenv = DotEnvSettingsSource(type(self))()

        def source(name: str) -> str:
            if _keys(name) & environment.keys():
                return "environment"
            if _keys(name) & dotenv.keys():
                return ".env"
            return str(secret_file(variable(name)) or "default")

        return {name: source(name) for name in type(self).model_fields}


def variable(name: str) -> str:
    """Name the environment variable of a setting."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else PREFIX + name.upper()


def load_settings(**overrides: Any) -> Settings:
    """Read the settings, or raise SettingsError with one line that names the variable and what is wrong with it."""
    known = {variable(name) for name in Settings.model_fields} | OF_COMPOSE
    dotenv = () if "_env_file" in overrides else DotEnvSettingsSource(Settings).env_vars
    # Failpoints are no setting: a file that lies about must not be able to switch one on.
    named = [name for name in os.environ if name != failpoints.VARIABLE]
    for name in (*named, *(name.upper() for name in dotenv)):
        if name.startswith(PREFIX) and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise SettingsError(f"{name} is no setting of Giro" + (f"; did you mean {close[0]}?" if close else ""))
    try:
        failpoints.arm(os.environ.get(failpoints.VARIABLE))
    except ValueError as error:
        raise SettingsError(f"{failpoints.VARIABLE}: {error}") from None
    try:
        return Settings(**overrides)
    except SecretFileError as error:
        raise SettingsError(str(error)) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise SettingsError(message) from None
        location = str(first["loc"][0])
        name = variable(location) if location in Settings.model_fields else location
        raise SettingsError(f"{name}: {message}") from None


def _keys(name: str) -> set[str]:
    return {name, variable(name)}
