"""The secrets of a Giro: each is a setting, or a file that is made at random at the first use."""

import secrets
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from core.files import durable
from core.settings import Settings, SettingsError
from core.settings.key_lists import SHORTEST_KEY_BYTES, write_keys


def new_secret() -> str:
    """Make a secret of 48 random bytes, as text without commas."""
    return secrets.token_urlsafe(48)


class KeptSecret:
    """One secret: the setting if it is set, otherwise the file at `path`, which has mode 0600.

    The file is read at each call, because a rotation can replace it while the service runs.
    """

    def __init__(
        self, setting: SecretStr | None, path: Path, *, make: Callable[[], str] = new_secret, shortest_bytes: int = 0
    ) -> None:
        self._given = None if setting is None else setting.get_secret_value()
        self.path = path
        self._make = make
        self._shortest_bytes = shortest_bytes

    @property
    def is_kept(self) -> bool:
        """Whether the secret is a file, which can be replaced. Otherwise it is a setting."""
        return self._given is None

    def find(self) -> str | None:
        """Return the secret, or None if it is missing. Raises as `read` does."""
        return self.read() if not self.is_kept or self.path.exists() else None

    def read(self) -> str:
        """Return the secret. Raises SettingsError if its file is missing, cannot be read or contains no key."""
        if self._given is not None:
            return self._given
        try:
            secret = self.path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", "it is not text")
            raise SettingsError(f"cannot read {self.path} ({reason})") from None
        if len(secret.encode()) < self._shortest_bytes:
            raise SettingsError(f"{self.path} holds no key of {self._shortest_bytes} bytes; restore it from a backup")
        return secret

    def read_or_make(self) -> str:
        """Return the secret, and make it first if it is missing. Of processes that make it at once, the first wins.

        Raises as `read` does, and SettingsError if the file cannot be made.
        """
        if self.is_kept and not self.path.exists():
            try:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                durable.create(self.path, self._make().encode())
            except OSError as error:
                raise SettingsError(f"cannot make {self.path} ({error.strerror})") from None
        return self.read()

    def replace(self, secret: str) -> None:
        """Replace the file's text. Raises OSError if it cannot be written, and then nothing has changed."""
        durable.replace(self.path, secret.encode())


class Secrets:
    """All secrets of one Giro. Only `read_or_make`, `make_missing`, `queue_url` and `queue_password` make files."""

    def __init__(self, settings: Settings) -> None:
        folder = settings.secrets_dir
        self.token_keys = KeptSecret(settings.jwt_secret, folder / "jwt_secret")
        """Keys that sign access tokens, in the form of `parse_token_keys`."""
        self.card_keys = KeptSecret(
            settings.card_keys, folder / "card_keys", make=lambda: write_keys({1: new_secret()})
        )
        """Keys that seal card numbers, in the form of `parse_keys`."""
        self.card_index_key = KeptSecret(
            settings.card_index_key, folder / "card_index_key", shortest_bytes=SHORTEST_KEY_BYTES
        )
        """The key that card numbers are found by. The keys of CVCs, cursors and throttles are derived from it."""
        self.anchor_key = KeptSecret(settings.anchor_key, folder / "anchor_key", shortest_bytes=SHORTEST_KEY_BYTES)
        """The key that signs anchors of the ledger, and backups."""
        self.backup_key = KeptSecret(settings.backup_key, folder / "backup_key", shortest_bytes=SHORTEST_KEY_BYTES)
        """The key that seals backups. It is never made here: an operator must know that backups need it."""
        self._settings = settings

    def make_missing(self) -> None:
        """Make every secret that is neither set nor in its file."""
        for secret in (self.token_keys, self.card_keys, self.card_index_key, self.anchor_key):
            secret.read_or_make()
        self.queue_password()

    def queue_password(self) -> str | None:
        """Return `REDIS_PASSWORD`, or the text of its file, which is made if it is missing; None if neither is set."""
        file = self._settings.redis_password_file
        if self._settings.redis_password:
            return self._settings.redis_password.get_secret_value()
        return None if file is None else KeptSecret(None, file).read_or_make()

    def queue_url(self) -> str:
        """Return where the queue is: `REDIS_URL` with its password, or the socket of the embedded server."""
        if self._settings.redis_url is None:
            return self._settings.embedded_queue_url
        given = self._settings.redis_url.get_secret_value()
        url, password = urlsplit(given), self.queue_password()
        if password is None or url.password is not None or url.scheme == "unix":
            return given
        user_and_password = f"{url.username or ''}:{quote(password, safe='')}"
        return url._replace(netloc=f"{user_and_password}@{url.netloc.rpartition('@')[2]}").geturl()
