"""Where the queue is."""

import os
import tempfile
from hashlib import blake2b
from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from core.settings.groups.processes import ProcessSettings

UNIX_SOCKET_PATH_MAX = 100
"""Bytes. The kernel's own limit is 104 on macOS and 108 on Linux, with the final NUL."""


class QueueSettings(ProcessSettings):
    """The queue server, and how the workers read from it."""

    title = "Queue"

    redis_url: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="The queue server: `redis://`, `rediss://` or `unix://`. Without it, `giro up` starts its own "
        "Valkey on a socket in the data folder.",
    )
    redis_password: SecretStr | None = Field(
        None,
        validation_alias="REDIS_PASSWORD",
        description="Password of the queue server, if `REDIS_URL` does not contain it.",
    )
    redis_password_file: Path | None = Field(
        None,
        description="File with that password, if `REDIS_PASSWORD` is not set. `giro migrate` generates a missing file "
        "(mode 0600).",
    )
    worker_poll_ms: int = Field(
        20, ge=1, le=1000, description="Longest time, in milliseconds, between two reads of the queue by a worker."
    )

    @field_validator("redis_url")
    @classmethod
    def _queue_scheme(cls, url: SecretStr | None) -> SecretStr | None:
        if url and not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return url

    @property
    def embedded_queue_socket(self) -> Path:
        """The socket of the embedded Valkey. It is outside the data folder only if the folder's path is too long."""
        socket = self.run_dir / "valkey.sock"
        if len(os.fsencode(socket)) <= UNIX_SOCKET_PATH_MAX:
            return socket
        name = blake2b(os.fsencode(socket), digest_size=8).hexdigest()
        return Path(tempfile.gettempdir()) / f"giro-{name}.sock"

    @property
    def embedded_queue_url(self) -> str:
        """The URL of that socket."""
        return f"unix://{self.embedded_queue_socket}"
