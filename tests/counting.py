"""Metrics of this process, as a scrape would read them."""

from prometheus_client import REGISTRY


def counted(name: str, **labels: str) -> float:
    """The value of a series, 0 if nothing has been counted yet."""
    return REGISTRY.get_sample_value(name, labels) or 0.0
