"""`giro`: the one command of an operator and of a first try.

`service` runs and checks the service, `transfers` moves money in and out, `operators` and `oversight` hold what stands
below `giro operator`, `keys` changes keys, and `console` is what all of them share.
"""

from core.cli import keys, operators, oversight, transfers
from core.cli.service import app, apply_migrations

__all__ = ["app", "apply_migrations", "main"]

app.add_typer(transfers.app)
operators.app.add_typer(oversight.app)
app.add_typer(operators.app, name="operator")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Run the command line."""
    app()
