"""The operations by name."""

from tests.faults.every.operation import Operation
from tests.faults.every.operations import accept, backup, migrate, settle, start

OPERATIONS: dict[str, Operation] = {
    "accept": accept,
    "settle": settle,
    "migrate": migrate,
    "backup": backup,
    "start": start,
}
