"""The processes next to the API: settlement, jobs, and the scheduler."""

import core.queue  # noqa: F401 - sets Dramatiq's options before any module here imports Dramatiq
