"""Metrics of the lines in which requests wait for their turn."""

from prometheus_client import Counter, Gauge

waiting = Gauge("giro_line_waiting", "Requests that wait in a line, by line.", ["line"], multiprocess_mode="livesum")
refused = Counter("giro_line_refused_total", "Requests that got no place in a line, by line.", ["line"])
