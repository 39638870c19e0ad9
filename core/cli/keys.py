"""`giro keys …`: the keys that Giro keeps."""

import sys

import typer
from rich.progress import Progress

from core.card_security import CardVault
from core.cli.console import complaints, one_line_errors, open_database, out, the_bank
from core.key_files import SHORTEST_KEY_BYTES
from core.services.card_keys import rotate
from core.settings import load_settings, variable

app = typer.Typer(help="The keys that Giro keeps.", no_args_is_help=True)
rotate_app = typer.Typer(help="Put a new key in an old one's place.", no_args_is_help=True)
app.add_typer(rotate_app, name="rotate")


@rotate_app.command("cards")
@one_line_errors
def rotate_card_keys() -> None:
    """Seal every card number under a new key, while the service runs. Interrupted, it goes on when run again."""
    settings = load_settings()
    database = open_database(settings)
    vault = CardVault(settings)
    with Progress(console=complaints, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("Sealing cards anew", total=None)
        done = rotate(database, vault, the_bank(), lambda count, of: progress.update(task, completed=count, total=of))
    if done.finished:
        out.print("an earlier rotation had been interrupted, and is finished now; run this again for a new key")
    out.print(f"{done.count} cards sealed anew, all with card key version {done.version}")
    if not vault.keys_are_kept:
        out.print(
            f"the keys come from {variable('card_keys')}: to use a new one, put `{done.version + 1}:` and a secret of "
            f"{SHORTEST_KEY_BYTES} bytes in front, restart the API, and run this again",
            soft_wrap=True,
            markup=False,
        )
