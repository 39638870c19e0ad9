"""A terminal with the output of `giro demo`."""

import contextlib
import io
import re
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from core.cli.demo import run_demo

COLUMNS = 98
TRANSFERS = 300
FONT = "ui-monospace, 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace"

DARK, LIGHT = (100, 112, 122), (214, 222, 229)
RED, GREEN, YELLOW, BLUE = (242, 95, 92), (95, 205, 185), (240, 200, 90), (100, 160, 245)
PURPLE, CYAN = (190, 140, 230), (90, 200, 220)
THEME = TerminalTheme(
    (20, 26, 31),
    LIGHT,
    [DARK, RED, GREEN, YELLOW, BLUE, PURPLE, CYAN, LIGHT],
    [DARK, RED, GREEN, YELLOW, BLUE, PURPLE, CYAN, LIGHT],
)


def demo() -> str:
    """Run the demonstration, and return its output as SVG."""
    out = Console(record=True, width=COLUMNS, color_system="truecolor", highlight=False, file=io.StringIO())
    out.print("[bold green]$[/] [bold]make demo[/]")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        status = run_demo(TRANSFERS, Path("data/demo"), out)
    assert status == 0, out.export_text()
    return _without_fonts(out.export_svg(title="make demo", theme=THEME))


def _without_fonts(drawn: str) -> str:
    """Replace the font that Rich loads from another host by the reader's own."""
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    assert "url(http" not in drawn
    return drawn.replace("Fira Code, monospace", FONT)
