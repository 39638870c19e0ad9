"""The work of the workers, one file for each subject, each of which exports `JOBS`. Here they are gathered."""

import pkgutil
from importlib import import_module

from workers.jobs.job import Job

_MODULES = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]

JOBS: tuple[Job, ...] = tuple(job for module in _MODULES for job in getattr(module, "JOBS", ()))

QUEUES = tuple(dict.fromkeys(job.queue for job in JOBS))
"""The queues of the jobs worker."""
