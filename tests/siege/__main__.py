"""Nobody can spend another's budget: `make siege`.

It starts a whole service with its default limits, and plays each attack for some seconds beside a well-behaved
customer, whose times it prints idle and under each attack. Everything stays on the loopback interface. The exit status
is 1 if an aim does not hold.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.flows.stack import Stack
from tests.siege.aims import Verdict, exit_status, judge, judge_service
from tests.siege.attacks import ATTACKS, Attack
from tests.siege.customer import GENUINE_SECONDS, PATIENCE_SECONDS, Day
from tests.siege.figures import IDLE, Attacker, Phase, Sample, kinds_of, quieter
from tests.siege.people import Person
from tests.siege.processes import part
from tests.siege.report import show
from tests.siege.stage import Scale, Sizes, Stage

MARGIN_SECONDS = 1
"""The attack begins this much before the customer's day, and ends this much after it."""
IDLE_AGAIN = "idle again"
QUICK = Sizes(huge=20_000, large=5_000)
QUICK_SECONDS = 5
SECONDS = 15
VERIFY_SECONDS = 300
SETTINGS = {"password_hash_rounds": "", "trusted_proxies": "127.0.0.0/8"}
"""An empty setting has its default; other tests hash faster."""

terminal = Console(stderr=True)


class Siege:
    """Plays the phases of one siege."""

    def __init__(self, stage: Stage, *, seconds: float, seed: int) -> None:
        self._stage = stage
        self._seconds = seconds
        self._seed = seed

    def rest(self, name: str) -> Phase:
        """Play a phase in which the customer is alone."""
        day = self._day(self._stage.enter(IDLE))
        with Scale(self._stage.stack.pid_of("api")) as scale:
            samples = _live(day)
        return Phase(name, kinds_of(samples), None, scale.most_mb, self._stage.rest())

    def play(self, attack: Attack) -> Phase:
        """Play an attack beside the customer."""
        grace = self._stage.enter(attack.name)
        # Genuine people sign up until the day's end, and must get in while the robots are still there.
        seconds = self._seconds + (GENUINE_SECONDS if attack.shared else 0) + 2 * MARGIN_SECONDS
        plan = attack.plan(self._stage, grace, seconds=seconds, seed=self._seed)
        with Scale(self._stage.stack.pid_of("api")) as scale, part("attacker", plan.as_json()) as attacker:
            time.sleep(MARGIN_SECONDS)
            samples = _live(self._day(grace, attack.shared))
            done = Attacker(**attacker(seconds + PATIENCE_SECONDS))
        return Phase(attack.name, kinds_of(samples), done, scale.most_mb, self._stage.rest())

    def _day(self, grace: Person, shared: str | None = None) -> Day:
        return Day(self._stage.stack.port, self._seconds, grace, self._stage.month, self._stage.device, shared)


def _live(day: Day) -> dict[str, list[Sample]]:
    with part("customer", day.as_json()) as customer:
        found = customer(day.seconds + 3 * PATIENCE_SECONDS)
    return {kind: [Sample(**one) for one in some] for kind, some in found.items()}


def besiege(stage: Stage, attacks: Sequence[Attack], *, seconds: float, seed: int) -> list[Phase]:
    """Let the people move in, and play all phases."""
    terminal.print(f"moving in, with {stage.sizes.huge} and {stage.sizes.large} transactions …")
    begun = time.monotonic()
    stage.settle_in([IDLE, *(attack.name for attack in attacks)])
    terminal.print(f"moved in after {time.monotonic() - begun:.0f} s, with {stage.filled} transactions")
    siege = Siege(stage, seconds=seconds, seed=seed)
    phases = [siege.rest(IDLE)]
    for attack in attacks:
        terminal.print(f"{attack.name}: {attack.says} …")
        phases.append(siege.play(attack))
    return [*phases, siege.rest(IDLE_AGAIN)]


def aftermath(stage: Stage) -> list[Verdict]:
    """Verify the ledger, and look for restarted processes."""
    verified = stage.stack.giro("verify", seconds=VERIFY_SECONDS)
    said = (verified.stdout.strip() or verified.stderr.strip()).partition("\n")[0]
    return judge_service(
        restarts=stage.restarts(),
        verified=verified.returncode == 0,
        said=said,
        filled=stage.filled,
        wanted=stage.sizes.huge + stage.sizes.large,
    )


def main() -> int:
    """Play a siege, print its tables, and return the exit status."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    attacks = [attack for attack in ATTACKS if options.attack in {None, attack.name}]
    with tempfile.TemporaryDirectory(prefix="giro-siege-") as folder:
        stack = Stack(Path(folder), measured=False, scraped=True, **SETTINGS)
        stage = Stage(stack, QUICK if options.quick else Sizes())
        try:
            phases = besiege(stage, attacks, seconds=options.seconds, seed=options.seed)
            idle = quieter([phases[0], phases[-1]])
            verdicts = judge(phases, idle, options.slack) + aftermath(stage)
        finally:
            stack.close()
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    machine = f"{platform.platform()}, {os.cpu_count()} processors, load {load}, seed {options.seed}"
    if options.json:
        _print_json(machine, phases, verdicts)
    else:
        print(machine)
        show(Console(width=None if sys.stdout.isatty() else 200), phases, idle, verdicts)
    return exit_status(verdicts)


def _print_json(machine: str, phases: Sequence[Phase], verdicts: Sequence[Verdict]) -> None:
    aims = [{"aim": one.aim, "attack": one.phase, "measured": one.value, "holds": one.holds} for one in verdicts]
    print(json.dumps({"machine": machine, "phases": [phase.as_dict() for phase in phases], "aims": aims}, indent=2))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short phases and smaller months")
    parser.add_argument("--seconds", type=float, help=f"length of a phase (default: {SECONDS}, quick: {QUICK_SECONDS})")
    parser.add_argument("--seed", type=int, default=1, help="of the attackers' choices (default: 1)")
    parser.add_argument("--attack", choices=[attack.name for attack in ATTACKS], help="play only this attack")
    parser.add_argument("--slack", type=float, default=1, help="factor of the bounds of time, for slow machines")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    options = parser.parse_args()
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    return options


if __name__ == "__main__":
    raise SystemExit(main())
