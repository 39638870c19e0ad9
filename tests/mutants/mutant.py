"""What a mutant is."""

from dataclasses import dataclass

SIMULATION = "tests/simulation"
"""Stands for one minute of simulation with its own seed, until the first failing sequence."""


@dataclass(frozen=True)
class Mutant:
    """One bug."""

    bug: str
    """The bug in a few words."""
    path: str
    swaps: tuple[tuple[str, str], ...]
    """Texts that occur once each in the file, and their replacements."""
    killers: tuple[str, ...]
    """Tests that must fail; each of them alone is enough."""
    quick: bool = False
    """Part of the short run in CI."""

    def applied_to(self, text: str) -> str:
        """Put the bug into the text of its file; raises LookupError unless the text to replace occurs exactly once."""
        for old, new in self.swaps:
            if text.count(old) != 1:
                raise LookupError(f"found {text.count(old)} times in {self.path}: {old!r}")
            text = text.replace(old, new)
        return text
