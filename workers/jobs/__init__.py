"""The work of the workers, one file for each subject. `JOBS` gathers what the files export."""

from workers.jobs import backups, statements, upkeep
from workers.jobs.job import Job

JOBS: tuple[Job, ...] = (*upkeep.JOBS, *backups.JOBS, *statements.JOBS)

QUEUES = tuple(dict.fromkeys(job.queue for job in JOBS))
"""The queues of the jobs worker."""
