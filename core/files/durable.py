"""Files and names that outlive a power cut."""

import os
from pathlib import Path


def sync_folder(path: Path) -> None:
    """Make a new file name durable: sealed data must not be on the disk without its key after a power cut."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
