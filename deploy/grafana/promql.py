"""Expressions of PromQL that the panels are made of.

Every process shows the metrics of the others too, at zero. A counter can be summed over all of them; what the scheduler
reads is taken from the scheduler alone.
"""

WINDOW = "$__rate_interval"
"""As long as Grafana finds right for the span that is shown, and never shorter than four scrapes."""


def per_second(counter: str, *, by: str = "", window: str = WINDOW) -> str:
    """How often something happens in a second; one line for each value of the label `by`."""
    return f"sum{_by(by)}(rate({counter}[{window}]))"


def how_many(counter: str, *, by: str = "", window: str) -> str:
    """How often something has happened in the last `window`."""
    return f"sum{_by(by)}(increase({counter}[{window}]))"


def share(part: str, whole: str, *, window: str) -> str:
    """Which share of a counter's events are of one kind: 0 to 1, and 0 where nothing has happened."""
    parts, events = how_many(part, window=window), how_many(whole, window=window)
    return f"({parts} or vector(0)) / ({events} > 0) or {zero_while_up('settlement')}"


def quantile(of: float, histogram: str, *, by: str = "", where: str = "", window: str = WINDOW) -> str:
    """The value that a share `of` the observations does not pass; no number where nothing was observed."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({of}, sum by ({labels}) (rate({histogram}_bucket{where}[{window}])))"


def mean(histogram: str, *, window: str = WINDOW) -> str:
    """The mean of what was observed; no number where nothing was."""
    return f"{per_second(f'{histogram}_sum', window=window)} / {per_second(f'{histogram}_count', window=window)}"


def read_by_scheduler(gauge: str, *, by: str = "") -> str:
    """A value that the scheduler reads for all."""
    return f'max{_by(by)}({gauge}{{process="scheduler"}})'


def or_zero(expression: str, process: str, *, label: str = "") -> str:
    """Show 0 where nothing of the kind has ever happened: a counter with labels is not there before its first event.

    `process` is the one that counts it, or a regular expression for several. While it is down nothing is shown, as a 0
    would say that all is well. `label` is the one that the lines are told apart by.
    """
    zero = zero_while_up(process)
    if label:
        zero = f'label_replace({zero}, "{label}", "none", "", "")'
    return f"{expression} or on() {zero}"


def zero_while_up(process: str) -> str:
    """0 while Prometheus reaches one of the processes, and nothing else."""
    return f'0 * max(up{{job="giro", process=~"{process}"}} == 1)'


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""
