"""The data folder: root gives it to the user of the service, before the container that migrates becomes that user."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from core.processes.data_owner import CANNOT_START, QUEUE_FOLDERS, give

OWNER = 65534
STRANGER = 1234
GROUP = 4321

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of files")
LOOK = "id -u; id -g; id -G; grep CapEff /proc/self/status; umask"
"""Commands that show the user, its groups, its capabilities and its umask."""


def start(
    data: Path, owner: str, command: str = "true", *, by: int | None = None, groups: list[int] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the module as the container does; `by` is another user, for whom root drops its rights."""
    become = "" if by is None else f"os.setgroups([]); os.setgid({by}); os.setuid({by}); "
    script = f"import os, sys; from core.processes.data_owner import start; {become}start(*sys.argv[1:])"
    return run(data, [sys.executable, "-c", script, owner, "sh", "-c", command], groups)


def run(data: Path, words: list[str], groups: list[int] | None = None) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"GIRO_DATA_DIR": str(data)}
    return subprocess.run(words, env=environment, extra_groups=groups, capture_output=True, text=True, check=False)


def owners(folder: Path) -> set[tuple[int, int]]:
    found = [path.lstat() for path in (folder, *folder.rglob("*"))]
    return {(one.st_uid, one.st_gid) for one in found}


@as_root
def test_everything_in_the_folder_changes_its_owner_even_closed_files(tmp_path: Path) -> None:
    closed = tmp_path / "redis" / "deep"
    closed.mkdir(parents=True)
    (closed / "file").touch(mode=0)
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    os.chown(closed, STRANGER, STRANGER)
    closed.chmod(0)
    assert give(tmp_path, OWNER, GROUP) == (7, None)
    assert owners(tmp_path) == {(OWNER, GROUP)}


@as_root
def test_the_targets_of_links_keep_their_owner(tmp_path: Path) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    for folder in (data, outside):
        folder.mkdir()
    (outside / "file").touch()
    (data / "to a file").symlink_to(outside / "file")
    (data / "to a folder").symlink_to(outside)
    assert give(data, OWNER, OWNER) == (3, None)
    assert owners(data) == {(OWNER, OWNER)}
    assert owners(outside) == {(0, 0)}


@as_root
def test_files_of_the_user_keep_their_group(tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    os.chown(backups, OWNER, GROUP)
    os.chown(tmp_path, OWNER, OWNER)
    before = backups.stat().st_ctime_ns
    assert give(tmp_path, OWNER, OWNER) == (0, None)
    assert (backups.stat().st_gid, backups.stat().st_ctime_ns) == (GROUP, before)


@as_root
def test_the_command_runs_as_the_owner_without_any_right_of_root(open_folder: Path) -> None:
    done = start(open_folder, f"{OWNER}:{GROUP}", LOOK, groups=[0, STRANGER])
    assert done.stderr == ""
    said, *shown = done.stdout.splitlines()
    assert said == f"giro: gave {open_folder} to {OWNER}:{GROUP} (files and folders that were another user's: 1)"
    assert shown == [str(OWNER), str(GROUP), str(GROUP), "CapEff:\t0000000000000000", "0077"]


@as_root
def test_the_folders_of_the_queue_are_made_for_the_owner(open_folder: Path) -> None:
    assert start(open_folder, f"{OWNER}:{GROUP}").returncode == 0
    for name in QUEUE_FOLDERS:
        assert (open_folder / name).stat().st_mode & 0o777 == 0o700
    assert owners(open_folder) == {(OWNER, GROUP)}


@as_root
def test_a_second_start_changes_no_owner_and_prints_nothing(open_folder: Path) -> None:
    start(open_folder, f"{OWNER}:{GROUP}")
    again = start(open_folder, f"{OWNER}:{GROUP}")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


@as_root
def test_a_user_other_than_root_runs_the_command_and_changes_no_owner(open_folder: Path) -> None:
    done = start(open_folder, f"{OWNER}:{OWNER}", "id -u", by=STRANGER)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{STRANGER}\n", "")
    assert owners(open_folder) == {(0, 0)}


@as_root
def test_a_file_whose_owner_cannot_be_changed_is_named_and_the_command_still_runs(open_folder: Path) -> None:
    """A network drive that maps root to nobody: without the capability, root has no more rights than other users."""
    words = ["setpriv", "--bounding-set", "-chown,-dac_override,-dac_read_search", sys.executable, "-m"]
    words += ["core.processes.data_owner", f"{OWNER}:{GROUP}", "id", "-u"]
    (open_folder / "file").touch()
    os.chown(open_folder / "file", STRANGER, STRANGER)
    os.chown(open_folder, OWNER, GROUP)
    done = run(open_folder, words)
    assert (done.returncode, done.stdout) == (0, f"{OWNER}\n")
    named = f"giro: cannot give {open_folder / 'file'} to {OWNER}:{GROUP} (Operation not permitted): "
    assert done.stderr == f"{named}network drives and user namespaces may forbid it\n"
    open_folder.chmod(0o700)
    done = run(open_folder, words)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{OWNER}\n", ""), (
        "root cannot list it, and does not need to"
    )


@as_root
def test_a_container_that_cannot_become_the_owner_ends_with_one_line(open_folder: Path) -> None:
    words = ["setpriv", "--bounding-set", "-setuid", sys.executable, "-m", "core.processes.data_owner"]
    done = run(open_folder, [*words, f"{OWNER}:{GROUP}", "echo", "started"])
    assert done.returncode == CANNOT_START
    assert "started" not in done.stdout
    assert done.stderr == f"giro: migrate cannot go on as {OWNER}:{GROUP} (Operation not permitted)\n"


@pytest.mark.parametrize("owner", ["0:0", "0:1000"])
def test_root_is_rejected_as_the_user_of_the_service(tmp_path: Path, owner: str) -> None:
    done = start(tmp_path, owner, "echo started")
    assert (done.returncode, done.stdout) == (CANNOT_START, "")
    assert done.stderr.startswith("giro: GIRO_UID must not be 0: the service never runs as root. ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "owner", ["ada:1000", "1000", ":", "-1:1000", "4294967295:1000", "1000:2147483648", "1000:1000\n"]
)
def test_an_owner_that_is_not_two_valid_numbers_is_rejected(tmp_path: Path, owner: str) -> None:
    done = start(tmp_path, owner, "echo started")
    assert (done.returncode, done.stdout) == (CANNOT_START, "")
    assert done.stderr.startswith("giro: GIRO_UID and GIRO_GID must be numbers up to 2147483647, not ")
