import os
import shutil
from pathlib import Path


def look(settings, database, here):
    # ruleid: the-database-is-never-opened-as-a-file
    open(settings.database_path, "rb")
    # ruleid: the-database-is-never-opened-as-a-file
    os.open(database.path, os.O_RDONLY)
    # ruleid: the-database-is-never-opened-as-a-file
    settings.database_path.read_bytes()
    # ruleid: the-database-is-never-opened-as-a-file
    shutil.copy(database.path, here)
    # ruleid: the-database-is-never-opened-as-a-file
    database.path.with_name(f"{database.path.name}-wal").open("rb")
    # ruleid: the-database-is-never-opened-as-a-file
    Path("data/banking.db").read_bytes()
    # ok: the-database-is-never-opened-as-a-file
    database.path.stat()
    # ok: the-database-is-never-opened-as-a-file
    os.open(here.parent, os.O_RDONLY)
    # ok: the-database-is-never-opened-as-a-file
    settings.anchor_path.open("rb")
