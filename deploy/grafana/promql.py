"""PromQL expressions for the panels.

Every process also shows the metrics of the others, at zero. A counter can be summed over all processes. Gauges that the
scheduler reads are taken from the scheduler only.
"""

WINDOW = "$__rate_interval"
"""Grafana chooses it for the shown time range. It is never shorter than four scrapes."""


def per_second(counter: str, *, by: str = "", window: str = WINDOW) -> str:
    """Return the events per second, with one line for each value of the label `by`."""
    return f"sum{_by(by)}(rate({counter}[{window}]))"


def how_many(counter: str, *, by: str = "", window: str) -> str:
    """Return the number of events in the last `window`."""
    return f"sum{_by(by)}(increase({counter}[{window}]))"


def share(part: str, whole: str, *, window: str) -> str:
    """Return the share of `part` in the events of `whole`, from 0 to 1. Without events it is 0."""
    parts, events = how_many(part, window=window), how_many(whole, window=window)
    return f"({parts} or vector(0)) / ({events} > 0) or {zero_while_up('settlement')}"


def quantile(of: float, histogram: str, *, by: str = "", where: str = "", window: str = WINDOW) -> str:
    """Return the value that a share `of` the observations does not exceed. Without observations there is no value."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({of}, sum by ({labels}) (rate({histogram}_bucket{where}[{window}])))"


def mean(histogram: str, *, window: str = WINDOW) -> str:
    """Return the mean of the observations. Without observations there is no value."""
    return f"{per_second(f'{histogram}_sum', window=window)} / {per_second(f'{histogram}_count', window=window)}"


def read_by_scheduler(gauge: str, *, by: str = "") -> str:
    """Return a gauge that the scheduler reads for all processes."""
    return f'max{_by(by)}({gauge}{{process="scheduler"}})'


def or_zero(expression: str, process: str, *, label: str = "") -> str:
    """Show 0 before the first event, because a counter with labels does not exist before it.

    `process` is the process that counts the events, or a regular expression for several. While it is down nothing is
    shown, because a 0 would look good. `label` is the label that distinguishes the lines.
    """
    zero = zero_while_up(process)
    if label:
        zero = f'label_replace({zero}, "{label}", "none", "", "")'
    return f"{expression} or on() {zero}"


def zero_while_up(process: str) -> str:
    """Return 0 while Prometheus reaches one of the processes, and no value otherwise."""
    return f'0 * max(up{{job="giro", process=~"{process}"}} == 1)'


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""
