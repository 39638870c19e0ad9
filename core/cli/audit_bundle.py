"""`giro audit-bundle`: a month of the ledger for somebody who checks it elsewhere."""

import json
from pathlib import Path
from typing import Annotated

import typer

from core.cli.console import counted, fail, one_line_errors, open_database, out, the_bank
from core.cli.reseal import AsJson
from core.cli.verify import anchors_of, drawn_progress
from core.domain.audit import Action
from core.domain.statements import Period
from core.services.audit import write_down
from core.services.verification import bundles
from core.settings import load_settings
from core.storage.unit_of_work import unit_of_work

app = typer.Typer()

Month = Annotated[str, typer.Option(metavar="YYYY-MM", help="The month, in the bank's time zone.")]
To = Annotated[Path, typer.Option("--to", metavar="FILE", help="The new file, such as 2026-11.zip.")]


@app.command("audit-bundle")
@one_line_errors
def audit_bundle(month: Month, to: To, as_json: AsJson = False) -> None:
    """Write the transfers, legs, blocks and anchors of a month to one file, which others can check without Giro.

    It has personal data: names of payees in descriptions, and every amount. Exit status 0 when it is written.
    """
    settings = load_settings()
    try:
        period = Period.parse(month)
    except ValueError as error:
        fail(f"--month: {error}")
    if to.exists():
        fail(f"{to} exists already")
    database = open_database(settings)
    anchors = anchors_of(settings)
    try:
        with drawn_progress() as progress:
            manifest = bundles.write(database, anchors, period, settings.zone, to, progress=progress)
    except bundles.NothingToBundle as error:
        fail(str(error), status=1)
    except OSError as error:
        fail(f"{to} cannot be written: {error}")
    with unit_of_work(database) as connection:
        write_down(connection, the_bank(), Action.AUDIT_BUNDLE_MADE, None, month=month, file=to.name)
    if as_json:
        print(json.dumps(manifest))
        return
    lines = {name: file["lines"] for name, file in manifest["files"].items()}
    out.print(
        f"{to}: {counted(lines['transfers.jsonl'], 'transfer')}, {counted(lines['legs.jsonl'], 'transaction')}, "
        f"{counted(lines['blocks.jsonl'], 'block')}, {counted(lines['anchors.jsonl'], 'anchor')}",
        soft_wrap=True,
        markup=False,
    )
