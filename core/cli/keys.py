"""`giro keys …`: Giro's keys."""

import sys
from typing import Annotated

import typer
from rich.progress import Progress

from core.cli.console import complaints, counted, fail, one_line_errors, open_database, out, show, the_bank
from core.clock import to_datetime
from core.security.card_vault import CardVault
from core.security.fingerprints import fingerprints
from core.security.secrets import Secrets
from core.security.token_keys import TokenKeys
from core.services import token_keys
from core.services.cards import keys as cards_keys
from core.settings import load_settings, variable
from core.settings.key_lists import SHORTEST_KEY_BYTES

app = typer.Typer(help="Giro's keys.", no_args_is_help=True)
rotate_app = typer.Typer(help="Replace a key by a new one.", no_args_is_help=True)
app.add_typer(rotate_app, name="rotate")


@app.command("list")
@one_line_errors
def list_keys() -> None:
    """List all keys, from the settings and the data folder, with the fingerprints that backups name them by."""
    show("key", "fingerprint", rows=list(fingerprints(Secrets(load_settings())).items()), more=False)


@rotate_app.command("tokens")
@one_line_errors
def rotate_token_keys(
    at_once: Annotated[bool, typer.Option("--at-once", help="Drop the older keys now: all access tokens end.")] = False,
) -> None:
    """Let a new key sign access tokens, while the service runs. Older keys end when their tokens have expired."""
    settings = load_settings()
    keys = TokenKeys(Secrets(settings))
    newest = keys.ring().signing.version
    if not keys.are_kept:
        fail(
            f"the keys come from {variable('jwt_secret')}: to use a new one, set it to `{newest + 1}:` and a secret of "
            f"{SHORTEST_KEY_BYTES} bytes, a comma, and the present keys ({newest}:…); restart the API; and remove the "
            f"older keys when their tokens have expired, {settings.access_token_seconds} seconds later"
        )
    database = open_database(settings)
    ring = token_keys.rotate(database, keys, the_bank(), token_seconds=settings.access_token_seconds, at_once=at_once)
    out.print(f"token key version {ring.signing.version} signs from now on")
    for key in ring.keys[1:]:
        end = to_datetime((key.until or 0) * 1_000_000)
        out.print(f"version {key.version} is accepted until {end:%Y-%m-%d %H:%M:%S} UTC", highlight=False)


@rotate_app.command("cards")
@one_line_errors
def rotate_card_keys() -> None:
    """Seal every card number with a new key, while the service runs. If it is interrupted, run it again to continue."""
    settings = load_settings()
    database = open_database(settings)
    vault = CardVault(Secrets(settings))
    with Progress(console=complaints, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("Sealing cards again", total=None)
        done = cards_keys.rotate(
            database, vault, the_bank(), lambda count, of: progress.update(task, completed=count, total=of)
        )
    if done.finished:
        out.print("an earlier rotation was interrupted, and is finished now; run this again for a new key")
    out.print(f"{counted(done.count, 'card')} sealed again, all with card key version {done.version}")
    if not vault.keys_are_kept:
        out.print(
            f"the keys come from {variable('card_keys')}: to use a new one, put `{done.version + 1}:` and a secret of "
            f"{SHORTEST_KEY_BYTES} bytes in front, restart the API, and run this again",
            soft_wrap=True,
            markup=False,
        )
