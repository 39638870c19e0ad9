"""The cost of one feature: two services that differ only in it take the same load in turns.

The order changes from pair to pair, so that noise of the machine affects both. Each pair gives one ratio.
"""

import argparse
import asyncio
import os
import platform
import statistics
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from tests.benchmarks.service import Payer, cpu_seconds, over_connections, people
from tests.flows.stack import Stack


@dataclass(frozen=True, slots=True)
class Load:
    """The result of one load."""

    rate: float
    """Accepted transfers per second."""
    cpu_us: float
    """The API's processor time per transfer in microseconds: a busy machine distorts it less than the rate."""


def load(stack: Stack, payers: Sequence[Payer], connections: int, seconds: float) -> Load:
    """Submit as fast as the answers come. Transfers still pending are settled before this returns."""
    api = [stack.pid_of("api")]
    used = cpu_seconds(api)
    accepted, _ = asyncio.run(over_connections(stack.port, payers, connections, seconds))
    return Load(accepted / seconds, (cpu_seconds(api) - used) / accepted * 1e6)


def options(description: str | None) -> argparse.Namespace:
    """Read the number of pairs, the length of each load and the connections; print the machine."""
    return parser_of(description).parse_args()


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Make the parser of these options, for a benchmark that has more; print the machine."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=16, help="pairs of loads (default: 16)")
    parser.add_argument("--seconds", type=float, default=4, help="length of one load (default: 4)")
    parser.add_argument("--connections", type=int, default=32, help="connections of the load (default: 32)")
    print(f"{platform.platform()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    return parser


def compare(
    word: str,
    stacks: Sequence[Stack],
    wanted: argparse.Namespace,
    meanwhile: AbstractContextManager[None] | None = None,
) -> None:
    """Let two services take the load in turns, print each pair and the totals, and end both services.

    `word` names the property that the first service has and the second one lacks.
    """
    try:
        sides = {stack: people(stack.start(), 16) for stack in stacks}
        for stack, payers in sides.items():
            load(stack, payers, wanted.connections, wanted.seconds / 2)  # warm-up
        found = []
        with meanwhile or nullcontext():
            for number in range(wanted.pairs):
                order = list(sides.items())[:: -1 if number % 2 else 1]
                loads = {stack: load(stack, payers, wanted.connections, wanted.seconds) for stack, payers in order}
                one, other = (loads[stack] for stack in stacks)
                found.append((one, other))
                print(
                    f"{word} {one.rate:.0f}/s at {one.cpu_us:.0f} µs of the API, not {other.rate:.0f}/s at "
                    f"{other.cpu_us:.0f} µs",
                    flush=True,
                )
    finally:
        for stack in stacks:
            stack.close()
    _show("accepted a second", word, [one.rate / other.rate for one, other in found])
    _show("the API's processor time for each", word, [one.cpu_us / other.cpu_us for one, other in found])


def _show(what: str, word: str, ratios: Sequence[float]) -> None:
    print(
        f"{what}, {word} to not {word}: median {statistics.median(ratios):.3f}, "
        f"{min(ratios):.3f} to {max(ratios):.3f}, n = {len(ratios)}"
    )
