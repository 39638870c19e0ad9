"""The secrets of a service. Each can also be a file: see core/settings/secret_files.py."""

from pathlib import Path

from pydantic import Field

from core.settings.groups.base import DataFolder
from core.settings.types import CardKeysText, Secret, TokenKeysText


class SecretSettings(DataFolder):
    """Keys. A key that is not set is generated in the data folder by core/security/secrets.py."""

    title = "Secrets"

    jwt_secret: TokenKeysText | None = Field(
        None,
        validation_alias="JWT_SECRET",
        description="Key that signs access tokens, at least 32 bytes; or several keys as `version:secret`, separated "
        "by commas, newest first: the newest signs, all are accepted. Default: generated as `secrets/jwt_secret` in "
        "the data folder (mode 0600).",
    )
    card_keys: CardKeysText | None = Field(
        None,
        description="Keys that encrypt card numbers: `version:secret`, separated by commas, newest first, each secret "
        "at least 32 bytes. Default: generated as `secrets/card_keys` in the data folder (mode 0600).",
    )
    card_index_key: Secret | None = Field(
        None,
        description="Key that card numbers are found by, at least 32 bytes. The keys of CVCs, cursors and throttles "
        "are derived from it. It cannot be changed. Default: generated once as `secrets/card_index_key` in the data "
        "folder (mode 0600).",
    )
    anchor_key: Secret | None = Field(
        None,
        description="Key that signs anchors of the ledger, at least 32 bytes. Default: generated once as "
        "`secrets/anchor_key` in the data folder (mode 0600).",
    )

    backup_key: Secret | None = Field(
        None,
        description="Key that seals backups, at least 32 bytes. Default: the file `secrets/backup_key` in the data "
        "folder, if you make one; otherwise backups are not sealed. No backup can be restored without the key that "
        "sealed it.",
    )

    @property
    def secrets_dir(self) -> Path:
        """The folder of generated secrets, absolute."""
        return self.data_dir.absolute() / "secrets"
