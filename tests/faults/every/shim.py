"""Building shim.c, and arming it in a process that was started with it."""

import ctypes
import os
import shutil
import subprocess
import sys
from enum import IntEnum
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
VARIABLE = "LD_PRELOAD"


class Call(IntEnum):
    """The kinds of calls, in the order of shim.c."""

    READ = 0
    WRITE = 1
    SYNC = 2
    TRUNCATE = 3
    NAME = 4
    """A rename, a hard link, or the removal of a name."""


class Fault(IntEnum):
    """What happens to the n-th call, in the order of shim.c."""

    NONE = 0
    FAILS = 1
    """It fails with EIO, and does nothing. The next one works."""
    STAYS_BROKEN = 2
    """It and all later ones of its kind fail with EIO."""
    FULL = 3
    """It writes its first half and says so. All later ones fail with ENOSPC."""
    TORN = 4
    """It writes its first half, and the process is killed."""
    KILLED = 5
    """The process is killed before it."""


FAULTS = {
    Call.READ: (Fault.FAILS, Fault.STAYS_BROKEN),
    Call.WRITE: (Fault.FAILS, Fault.FULL, Fault.TORN),
    Call.SYNC: (Fault.FAILS, Fault.STAYS_BROKEN, Fault.KILLED),
    Call.TRUNCATE: (Fault.FAILS, Fault.STAYS_BROKEN, Fault.KILLED),
    Call.NAME: (Fault.FAILS, Fault.STAYS_BROKEN, Fault.KILLED),
}


def why_impossible() -> str | None:
    """Return why this machine cannot make calls fail, or None if it can."""
    if sys.platform != "linux":
        return "only Linux is supported"
    return None if shutil.which("cc") else "there is no C compiler (Debian and Ubuntu: apt install gcc libc6-dev)"


def run_with_shim(folder: Path, *command: str) -> int:
    """Build the shim below a folder, run a command with it, and return its exit status."""
    library = folder / "shim.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return subprocess.run(command, env=os.environ | {VARIABLE: str(library)}, check=False).returncode


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(os.environ[VARIABLE])
    library.arm.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int)
    library.arm.restype = None
    library.count_of.restype = ctypes.c_long
    return library


def arm(folder: Path, call: Call = Call.READ, number: int = 0, fault: Fault = Fault.NONE) -> None:
    """From now on count this process's calls about the files of a folder, and apply a fault to one of them."""
    _library().arm(os.fsencode(folder), call, number, fault)


def counted() -> dict[Call, int]:
    """Return the number of calls since `arm`."""
    return {call: _library().count_of(call) for call in Call}
