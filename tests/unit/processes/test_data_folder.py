"""The data folder is checked before anything starts on it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.processes.data_folder import require_data_folder
from core.settings import SettingsError, load_settings

NOBODY = 65534


def test_a_missing_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    require_data_folder(load_settings(data_dir=tmp_path / "made" / "here"))
    assert (tmp_path / "made" / "here").stat().st_mode & 0o777 == 0o700


def test_a_secrets_folder_that_others_can_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir(mode=0o755)
    require_data_folder(load_settings(data_dir=tmp_path))
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError) as refused:
        require_data_folder(load_settings(data_dir=tmp_path / "file" / "data"))
    assert str(refused.value).startswith(f"GIRO_DATA_DIR: cannot make {tmp_path / 'file'}")


@pytest.mark.processes
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who may not write there")
@pytest.mark.parametrize("strange", [".", "banking.db", "secrets", "run"])
def test_an_item_of_another_user_is_named_with_the_command_that_fixes_it(open_folder: Path, strange: str) -> None:
    data = open_folder / "data"
    for folder in (data, data / "secrets", data / "run"):
        folder.mkdir(mode=0o700)
    (data / "banking.db").touch(mode=0o600)
    for path in (data, *data.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    assert start_as_nobody(data) == (0, "")
    os.chown(data / strange, 0, 0)
    status, said = start_as_nobody(data)
    assert status == 1
    assert f"{data / strange} belongs to 0:0, and Giro runs as {NOBODY}:{NOBODY} and may not write there" in said
    assert f"`chown -R {NOBODY}:{NOBODY} {data}`" in said
    assert "GIRO_UID and GIRO_GID" in said


def start_as_nobody(data: Path) -> tuple[int, str]:
    """Check the folder as a user who owns nothing; the process drops its rights once Python is loaded."""
    script = (
        "import os, sys; from pathlib import Path; from core.processes.data_folder import require_data_folder; "
        "from core.settings import SettingsError, load_settings; settings = load_settings(data_dir=Path(sys.argv[1]));"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "try: require_data_folder(settings)\nexcept SettingsError as error: sys.exit(str(error))"
    )
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "COV_CORE_"))}
    done = subprocess.run(
        [sys.executable, "-c", script, str(data)], env=unmeasured, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr
