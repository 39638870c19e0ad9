"""The `giro` command.

`service` runs and shows the service, `verification` checks the ledger, `backups` makes and restores backups,
`transfers` has deposits and withdrawals, `batches` submits transfers from files, `operators` and `oversight` have the
commands of `giro operator`, `queue` handles parked messages, `keys` rotates keys, and `console` is shared by all.
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
