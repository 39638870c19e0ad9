"""The `giro` command.

Files are named after the commands that they hold: `backup` has `giro backup` and `giro restore`, `deposit` has
`giro deposit` and `giro withdraw`. `service` has the commands that run the service, and `console` is shared by all.
"""

from core.cli import (
    audit_bundle,
    backup,
    clock,
    demo,
    deposit,
    erase_user,
    isolate,
    keys,
    operator,
    operator_lists,
    queue,
    reseal,
    status,
    transfers,
    verify,
)
from core.cli.service import app, apply_migrations

__all__ = ["app", "apply_migrations", "main"]

app.add_typer(demo.app)
app.add_typer(status.app)
app.add_typer(backup.app)
app.add_typer(deposit.app)
app.add_typer(transfers.app, name="transfers")
app.add_typer(verify.app)
app.add_typer(reseal.app)
app.add_typer(isolate.app)
app.add_typer(audit_bundle.app)
operator.app.add_typer(operator_lists.app)
operator.app.add_typer(erase_user.app)
app.add_typer(operator.app, name="operator")
app.add_typer(clock.app, name="clock")
app.add_typer(queue.app, name="queue")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Run the command line."""
    app()
