"""A start after a crash: what `giro up` does before its processes run, and then the first settlement.

The log was not moved into the database, its index is lost, and there are no secrets yet.
"""

import shutil
from collections.abc import Sequence
from functools import partial

import typer

from core.cli import service
from core.cli.console import one_line_errors
from core.processes import run
from core.processes.database_hold import no_part_beside
from core.security.card_vault import CardVault
from core.security.secrets import Secrets
from core.security.token_keys import TokenKeys
from core.settings import Settings
from tests.faults.every.operation import CRASHED, UNAVAILABLE, Said, Tell
from tests.faults.every.operations import settle


class _ReadyToRun(Exception):
    """Everything is prepared; now the processes would be started."""


def prepare(settings: Settings) -> None:
    """Leave the data folder of a killed service: everything is in the log, and nothing was closed."""
    database = settle.open_bank(settings)
    crashed = settings.data_dir.with_name("crashed")
    shutil.copytree(settings.data_dir, crashed, ignore=shutil.ignore_patterns("*-shm"))
    database.close()
    shutil.rmtree(settings.data_dir)
    crashed.rename(settings.data_dir)


def do(settings: Settings, facts: None, tell: Tell) -> None:
    """Start; settle if that succeeds."""
    if (status := _start(settings, tell)) == 0:
        settle.do(settings, facts, tell)
    else:
        tell(UNAVAILABLE, status=status)


def _start(settings: Settings, tell: Tell) -> int:
    """Start until the processes would be started, and return the exit status."""
    try:
        return one_line_errors(run.run)(settings, children=(), prepare=partial(_prepare, settings))
    except typer.Exit as ended:
        return ended.exit_code
    except _ReadyToRun:
        return 0
    except Exception as error:
        tell(CRASHED, why=repr(error))
        raise


def _prepare(settings: Settings) -> None:
    service.prepare(settings, hold=no_part_beside)
    service.make_secrets(Secrets(settings))
    raise _ReadyToRun


def judge(settings: Settings, facts: None, told: Sequence[Said]) -> list[str]:
    """The next start succeeds with the same keys, and everything is settled as after a failed settlement."""
    names = ("jwt_secret", "card_keys", "card_index_key", "anchor_key")
    before = {name: path.read_bytes() for name in names if (path := settings.secrets_dir / name).exists()}
    again: list[str] = []
    if status := _start(settings, lambda what, **_: again.append(what)):
        again.append(f"exit status {status}")
    found = [f"the second start: {what}" for what in again]
    found += [
        f"the key {name} is another one"
        for name, key in before.items()
        if (settings.secrets_dir / name).read_bytes() != key
    ]
    TokenKeys(secrets := Secrets(settings))
    CardVault(secrets)
    return found + settle.judge(settings, facts, told)
