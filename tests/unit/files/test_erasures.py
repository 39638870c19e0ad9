"""The file of erased users."""

from pathlib import Path
from uuid import uuid4

import pytest

from core.files import erasures


def test_erased_users_are_read_in_the_order_of_their_erasure(tmp_path: Path) -> None:
    users = [uuid4(), uuid4()]
    for user in users:
        erasures.append(tmp_path / "erasures", user)
    assert list(erasures.read(tmp_path / "erasures")) == users


def test_a_line_that_is_not_an_id_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "erasures").write_text(f"{uuid4()}\nnobody\n")
    with pytest.raises(ValueError, match="badly formed"):
        list(erasures.read(tmp_path / "erasures"))
