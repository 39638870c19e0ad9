"""The queue. Its messages are only hints to look at the database, and their content is never trusted.

A wake-up only means that something may have to be settled. Losing, repeating, delaying or forging one changes nothing:
the worker reads the pending transfers from the database, and looks there itself if a wake-up was lost.
"""

import os

# Dramatiq reads these when it is imported, so `workers` imports this package first. A consumer that lost its server
# retries soon. It takes many messages at once, because holding wake-ups is cheap and sleeping between them is not.
os.environ.setdefault("dramatiq_restart_delay", "500")
os.environ.setdefault("dramatiq_queue_prefetch", "100")
