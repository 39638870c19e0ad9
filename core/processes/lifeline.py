"""The life of a process: its heartbeat, and its end together with its parent."""

import ctypes
import gc
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from core.processes import heartbeats
from core.settings import Settings
from core.telemetry.metrics import processes as metrics

HEARTBEAT_SECONDS = 1.0
STOP_SECONDS = 1.0
"""Time that a stopping process waits for a beat that hangs."""

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
# Loaded here and not in the function: between fork and exec, a child must not import anything or wait for a loader's
# lock.


class Heartbeat:
    """Touches this process's heartbeat files every second for as long as the process is alive.

    The supervisor and the health checks read the files' times (core/processes/heartbeats.py). Each folder has its own
    thread, so that a disk that hangs does not stop the beat in memory. A beat is left out whenever `alive` returns
    False. The threads would keep beating in a process whose event loop or worker hangs, so `alive` should check these.
    Threads do not survive a fork, so start the heartbeat after it.
    """

    def __init__(self, settings: Settings, name: str, *, alive: Callable[[], bool] | None = None) -> None:
        self._run_dir = settings.run_dir
        self._name = name
        self._alive = alive or (lambda: True)
        self._stopped = threading.Event()
        self._folders = heartbeats.folders(settings.run_dir)
        self._turns = {folder: threading.Lock() for folder in self._folders}
        self._threads = [
            threading.Thread(target=self._run, args=(folder,), name="heartbeat", daemon=True)
            for folder in self._folders
        ]

    def start(self) -> None:
        """Beat once, so that the files exist when this returns, and then every second."""
        for folder, thread in zip(self._folders, self._threads, strict=True):
            self._beat(folder)
            thread.start()

    def rename(self, name: str) -> None:
        """Beat under another name from now on, because the process does other work than before."""
        before, self._name = self._name, name
        for folder, turn in self._turns.items():
            with turn, suppress(OSError):
                heartbeats.path_of(folder, before).replace(heartbeats.path_of(folder, name))

    def stop(self) -> None:
        """End the threads and remove the files; a second call does nothing."""
        self._stopped.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(STOP_SECONDS)
        for folder in self._folders:
            with suppress(OSError):
                heartbeats.path_of(folder, self._name).unlink(missing_ok=True)
        heartbeats.remove_memory_dir(self._run_dir)

    def _run(self, folder: Path) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            self._beat(folder)

    def _beat(self, folder: Path) -> None:
        if not self._alive():
            return
        metrics.heartbeat.set(time.time())
        # A full disk must not end this thread: the process would be killed although it is alive.
        with self._turns[folder], suppress(OSError):
            self._touch(heartbeats.path_of(folder, self._name))

    def _touch(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)


def freeze_garbage_collector() -> None:
    """Exclude all objects that exist now from garbage collection. Call this once a process is ready.

    Otherwise each full collection reads all of them, which takes some fifty milliseconds. In the settlement worker that
    happens inside a unit of work, about once a second, and delays every client that submits.
    """
    gc.collect()
    gc.freeze()


def ask_to_stop() -> None:
    """Stop this process in the usual way, by SIGTERM. Any thread may call this."""
    os.kill(os.getpid(), signal.SIGTERM)


def never_dump_core() -> None:
    """Disable core files for this process and its children: a core file contains every key in memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to send SIGKILL to this process when its parent ends, however the parent ends.

    Use it as the `preexec_fn` of a child's Popen. The setting survives exec (except for set-user-ID binaries), so it
    works for other programs too. It does not survive fork: each fork of a child must ask again. "Parent" means the
    *thread* that spawned the process (prctl(2)), so spawn from a thread that lives as long as the process. On systems
    other than Linux, this does nothing.
    """
    if _libc is None:
        return
    if _libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died between the fork and the call, which would then wait for the end of another process.
    if os.getppid() != parent_pid:
        os._exit(1)
