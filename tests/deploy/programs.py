"""Programs for the deployment of Giro that no lock file contains."""

import os
import shutil

import pytest


def program(name: str, package: str) -> str:
    """Return the path of a program; fail with one line if it is not installed."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.fail(f"{name} is not installed; on Debian and Ubuntu: apt install {package}", pytrace=False)
    return found
