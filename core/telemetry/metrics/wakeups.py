"""Metrics of the wake-ups of the settlement worker."""

from prometheus_client import Counter

wakeups = Counter("giro_wakeups_total", "Wake-ups for the settlement worker, by outcome.", ["outcome"])
swept = Counter("giro_sweep_wakeups_total", "Wake-ups sent because a transfer was pending for too long.")
