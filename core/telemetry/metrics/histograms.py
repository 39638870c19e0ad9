"""Buckets of histograms, and a histogram that takes many observations at once."""

from collections.abc import Mapping

from prometheus_client import Histogram
from prometheus_client.samples import Exemplar

from core.clock import now_us

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LIFETIME = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)
SIZE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class HistogramOfMany(Histogram):
    """A histogram that takes many equal observations at once. One by one, thousands would take milliseconds."""

    def observe_many(self, amount: float, count: int, exemplar: Mapping[str, str] | None = None) -> None:
        """Observe the same amount `count` times. `exemplar` holds the labels of one of them."""
        # These are private fields of the library, used as in its own `observe`. Tests compare the two.
        self._sum.inc(amount * count)
        for bucket, bound in zip(self._buckets, self._upper_bounds, strict=True):
            if amount <= bound:
                bucket.inc(count)
                if exemplar is not None:
                    bucket.set_exemplar(Exemplar(dict(exemplar), amount, now_us() / 1e6))
                return
