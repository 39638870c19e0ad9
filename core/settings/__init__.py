"""The settings of a service: groups of them by capability (core/settings/groups/), gathered here.

Values come from the environment, then from `.env`, then from files of secrets, then from the defaults.
"""

import difflib
import os
from typing import Any, Self

from pydantic import ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from core import failpoints
from core.settings.groups.backups import BackupSettings
from core.settings.groups.base import DataFolder, SettingsGroup
from core.settings.groups.cards import CardSettings
from core.settings.groups.identity import IdentitySettings
from core.settings.groups.processes import ProcessSettings
from core.settings.groups.queue import QueueSettings
from core.settings.groups.secrets import SecretSettings
from core.settings.groups.server import ServerSettings
from core.settings.groups.statements import StatementSettings
from core.settings.groups.storage import StorageSettings
from core.settings.groups.telemetry import TelemetrySettings
from core.settings.groups.throttling import ThrottlingSettings
from core.settings.groups.transfers import TransferSettings
from core.settings.groups.verification import VerificationSettings
from core.settings.secret_files import SecretFileError, SecretFiles, secret_file

PREFIX = "GIRO_"
PORTS = (
    "port",
    "operator_port",
    "metrics_port_api",
    "metrics_port_settlement",
    "metrics_port_jobs",
    "metrics_port_scheduler",
)
"""The settings that are ports to listen on."""

OF_COMPOSE = {
    "GIRO_UID": ("1000", "User that the containers run as, and that owns ./data: a number, and not root."),
    "GIRO_GID": ("1000", "Group of that user: a number."),
    "GIRO_PUBLISH": ("127.0.0.1:8000", "Where the API is published: an address of the machine and a port."),
    "GIRO_IMAGE": ("giro", "Name of the image."),
}
"""Default and meaning of the variables that only docker-compose.yml reads, from the same `.env`."""


def of_compose(name: str) -> str:
    """Read a variable of `OF_COMPOSE` as Compose does: from the environment, `.env`, or the default."""
    dotenv = DotEnvSettingsSource(Settings).env_vars
    return os.environ.get(name) or dotenv.get(name.lower()) or OF_COMPOSE[name][0]


class SettingsError(Exception):
    """A setting that the service cannot start with. The message is one line for the person who set it."""


class Settings(
    ServerSettings,
    StorageSettings,
    QueueSettings,
    SecretSettings,
    IdentitySettings,
    TransferSettings,
    CardSettings,
    StatementSettings,
    ThrottlingSettings,
    VerificationSettings,
    BackupSettings,
    ProcessSettings,
    TelemetrySettings,
    BaseSettings,
):
    """All settings of one service.

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

    @classmethod
    def groups(cls) -> list[type[SettingsGroup]]:
        """Return the groups in the order of the documentation. Together they have each setting once."""
        return [DataFolder, *(base for base in cls.__bases__ if issubclass(base, SettingsGroup))]

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

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        """Refuse two parts on one port: the second one would never start, while the first one seems healthy."""
        taken: dict[int, str] = {}
        for name in PORTS:
            port = getattr(self, name)
            if port and (other := taken.setdefault(port, name)) != name:
                raise ValueError(f"{variable(other)} and {variable(name)} are both {port}; each needs its own")
        return self

    def sources(self) -> dict[str, str]:
        """Return the source of each setting's value: `environment`, `.env`, the path of a file, or `default`."""
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
    """Return the name of a setting's environment variable."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else PREFIX + name.upper()


def load_settings(**overrides: Any) -> Settings:
    """Read the settings. Raises SettingsError with one line that names the variable and the mistake."""
    known = {variable(name) for name in Settings.model_fields} | OF_COMPOSE.keys()
    dotenv = () if "_env_file" in overrides else DotEnvSettingsSource(Settings).env_vars
    # Failpoints are not settings: a file that happens to be there must not arm one.
    named = [name for name in os.environ if name != failpoints.VARIABLE]
    for name in (*named, *(name.upper() for name in dotenv)):
        if name.startswith(PREFIX) and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise SettingsError(f"{name} is not a setting" + (f"; did you mean {close[0]}?" if close else ""))
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
