"""Settings that are files, named like their variables in lower case: secrets that no environment shows."""

import os
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

CONTAINER_SECRETS = Path("/run/secrets")
"""Where container engines put the secrets that a container is given."""


class SecretFileError(Exception):
    """A secret that is there and cannot be read; the message is one line that names its variable."""


class SecretFiles(PydanticBaseSettingsSource):
    """Where settings come from that are files.

    The library's own source passes over links and empty files, and has to list the folder. A secret that is passed
    over would be made anew at random, so here one that cannot be read stops the start, with SecretFileError.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        """Read the file of one setting, if there is one; see the base class for what is returned."""
        key = str(field.validation_alias or field_name)
        variable = key if field.validation_alias else f"{self.config.get('env_prefix', '')}{field_name}".upper()
        path = secret_file(variable)
        return (None if path is None else _secret_in(path, variable)), key, False

    def __call__(self) -> dict[str, Any]:
        """Read the files of all settings that have one."""
        values = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {key: value for value, key, _ in values if value is not None}


def secret_file(variable: str) -> Path | None:
    """Find the file of a setting, among the credentials of a systemd service first, then a container's secrets.

    Raises SecretFileError if a folder may not be looked into.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    for folder in (*([Path(credentials)] if credentials else []), CONTAINER_SECRETS):
        path = folder / variable.lower()
        try:
            path.lstat()  # and not exists(): a link to nowhere was meant to be a secret
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise SecretFileError(f"{variable}: cannot look into {folder} ({error.strerror})") from None
        return path
    return None


def _secret_in(path: Path, variable: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SecretFileError(f"{variable}: cannot read {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SecretFileError(f"{variable}: {path} is no text") from None
    if not text:
        raise SecretFileError(f"{variable}: {path} is empty")
    return text
