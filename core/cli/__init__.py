"""`giro`: the one command of an operator and of a first try.

`service` runs and shows the service, `verification` checks the ledger, `backups` copies it and puts it back,
`transfers` moves money in and out, `batches` moves it from files, `operators` and `oversight` hold what stands below
`giro operator`, `queue` is about parked messages, `keys` changes keys, and `console` is what all of them share.
"""

from core.cli import backups, batches, keys, operators, oversight, queue, transfers, verification
from core.cli.service import app, apply_migrations

__all__ = ["app", "apply_migrations", "main"]

app.add_typer(backups.app)
app.add_typer(transfers.app)
app.add_typer(batches.app, name="transfers")
app.add_typer(verification.app)
operators.app.add_typer(oversight.app)
app.add_typer(operators.app, name="operator")
app.add_typer(queue.app, name="queue")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Run the command line."""
    app()
