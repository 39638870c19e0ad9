"""The queue is a hint to look at the database; nothing in it has to be believed.

A wake-up says only that something is to be settled. Losing, repeating, delaying or forging one changes nothing: the
worker reads what is pending, and the sweep wakes it where a wake-up was lost.
"""

import os

# Dramatiq reads these when it is imported, so `workers` imports this package first. A consumer that lost its server
# retries soon. It takes many messages at once, because holding wake-ups is cheap and sleeping between them is not.
os.environ.setdefault("dramatiq_restart_delay", "500")
os.environ.setdefault("dramatiq_queue_prefetch", "100")
