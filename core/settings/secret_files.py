"""Settings from files, named like their variables in lower case, so that secrets do not appear in an environment."""

import os
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

CONTAINER_SECRETS = Path("/run/secrets")
"""The folder where container engines put a container's secrets."""


class SecretFileError(Exception):
    """A secret exists but cannot be read. The message is one line that names its variable."""


class SecretFiles(PydanticBaseSettingsSource):
    """The source of settings that are files.

    The library's own source ignores links and empty files, and has to list the folder. If a secret were ignored, a new
    random one would be made. So here a secret that cannot be read stops the start with SecretFileError.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        """Read the file of one setting, if it exists. The base class describes the return value."""
        key = str(field.validation_alias or field_name)
        variable = key if field.validation_alias else f"{self.config.get('env_prefix', '')}{field_name}".upper()
        path = secret_file(variable)
        return (None if path is None else _secret_in(path, variable)), key, False

    def __call__(self) -> dict[str, Any]:
        """Read the files of all settings that have a file."""
        values = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {key: value for value, key, _ in values if value is not None}


def secret_file(variable: str) -> Path | None:
    """Find the file of a setting: first among the credentials of a systemd service, then among a container's secrets.

    Returns None if there is no file. Raises SecretFileError if a folder cannot be read.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    for folder in (*([Path(credentials)] if credentials else []), CONTAINER_SECRETS):
        path = folder / variable.lower()
        try:
            path.lstat()  # not exists(): a broken link was meant to be a secret
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise SecretFileError(f"{variable}: cannot read the folder {folder} ({error.strerror})") from None
        return path
    return None


def _secret_in(path: Path, variable: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SecretFileError(f"{variable}: cannot read {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SecretFileError(f"{variable}: {path} is not text") from None
    if not text:
        raise SecretFileError(f"{variable}: {path} is empty")
    return text
