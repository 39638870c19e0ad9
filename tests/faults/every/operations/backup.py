"""`giro backup` of a ledger with anchors and a pending transfer."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from core.cli.console import the_bank
from core.security.anchor_key import AnchorKey
from core.security.secrets import Secrets
from core.services.backups import manifests, restoring
from core.services.backups.making import BackupError, kept
from core.services.verification.anchoring import anchor_head
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import checkpoint
from tests.builders import WHOLE_TRANSFERS, accepted, bank_of_two, from_ada_to_bob, rows, settle_all
from tests.faults.every.operation import DONE, Said, Tell, new_database, unsound
from tests.faults.every.operations.commands import giro

LEDGER = f"SELECT * FROM {WHOLE_TRANSFERS} ORDER BY id"

type Facts = list[dict[str, object]]
"""All transfers, and how they ended."""


def prepare(settings: Settings) -> Facts:
    """Make a ledger with a deposit, a completed transfer and a pending one, an anchor, and all secrets."""
    database = new_database(settings)
    bank = bank_of_two(database, ada_has=1_000)
    accepted(database, from_ada_to_bob(bank))
    settle_all(database)
    accepted(database, from_ada_to_bob(bank))
    secrets = Secrets(settings)
    secrets.make_missing()
    anchor_head(database, AnchorKey(secrets.anchor_key.read_or_make()), settings.anchor_path)
    transfers = rows(database, LEDGER)
    checkpoint(database)
    database.close()
    return transfers


def do(_settings: Settings, _facts: Facts, tell: Tell) -> None:
    """Make a backup once."""
    giro(tell, "backup")


def judge(settings: Settings, facts: Facts, told: Sequence[Said]) -> list[str]:
    """The ledger is untouched, everything that looks like a backup is whole, and the next backup is made."""
    found = unsound(settings) + _changed(settings, facts, "the ledger")
    left = kept(settings.backups_path)
    if told and told[-1]["what"] == DONE and not left:
        found.append("a backup was said to be made, and it is missing")
    for path in settings.backups_path.glob("giro-*.db"):
        found += _restored(settings, facts, path)
    again: list[str] = []
    giro(lambda what, **_: again.append(what), "backup")
    if again != [DONE] or len(kept(settings.backups_path)) != len(left) + 1:
        found.append(f"the next backup: {again}, {len(left)} before, {len(kept(settings.backups_path))} after")
    for path, _ in kept(settings.backups_path)[-1:]:
        found += _restored(settings, facts, path)
    names = {path.name for path in settings.backups_path.iterdir() if path.name != ".lock"}
    known = {part.name for path, _ in kept(settings.backups_path) for part in manifests.parts_of(path)}
    return found + [f"a leftover stays: {name}" for name in names - known]


def _restored(settings: Settings, facts: Facts, file: Path) -> list[str]:
    """Restore a backup into another folder, with the keys of this one. A file that is not whole must be rejected."""
    there = settings.data_dir.with_name("restored")
    shutil.rmtree(there, ignore_errors=True)
    shutil.copytree(settings.secrets_dir, there / settings.secrets_dir.relative_to(settings.data_dir))
    url = settings.database_url.replace(str(settings.data_dir), str(there))
    other = settings.model_copy(update={"data_dir": there, "database_url": url})
    try:
        restoring.restore(other, file, the_bank(), lambda *_: None)
    except BackupError as error:
        return [f"{file.name} is kept and cannot be restored: {error}"] * (file in dict(kept(file.parent)))
    return unsound(other) + _changed(other, facts, file.name)


def _changed(settings: Settings, facts: Facts, where: str) -> list[str]:
    database = Database(settings)
    transfers = rows(database, LEDGER)
    database.close()
    return [f"{where} has other transfers: {transfers}"] * (transfers != facts)
