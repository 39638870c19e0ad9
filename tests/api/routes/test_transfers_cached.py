"""The entity tag of a transfer."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.api.conftest import Pair, Person, refused


class TestTheEntityTag:
    async def test_changes_only_when_the_transfer_changes(
        self, ada: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        path = f"/transfers/{(await ada.pay(pair.payer, pair.payee))['id']}"
        tag = (await ada.get(path)).headers["etag"]
        unchanged = await ada.get(path, headers={"If-None-Match": tag})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["etag"] == tag
        assert unchanged.headers["retry-after"] == "1"
        settle()
        changed = await ada.get(path, headers={"If-None-Match": tag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag

    @pytest.mark.parametrize(
        ("written", "status"),
        [
            ("{tag}", 304), ("W/{tag}", 304), ('"other", {tag}', 304), ("*", 304),
            ('"other"', 200), ("", 200), ("other", 200), ('W/"other"', 200), (",,,", 200),
        ],
    )  # fmt: skip
    async def test_is_compared_weakly_with_each_in_a_list(
        self, ada: Person, pair: Pair, written: str, status: int
    ) -> None:
        path = f"/transfers/{(await ada.pay(pair.payer, pair.payee))['id']}"
        tag = (await ada.get(path)).headers["etag"]
        answer = await ada.get(path, headers={"If-None-Match": written.format(tag=tag)})
        assert answer.status_code == status

    async def test_may_be_sent_in_several_headers(self, ada: Person, pair: Pair) -> None:
        path = f"/transfers/{(await ada.pay(pair.payer, pair.payee))['id']}"
        tag = (await ada.get(path)).headers["etag"]
        lines = [("If-None-Match", '"another"'), ("If-None-Match", tag)]
        assert (await ada.request("GET", path, headers=lines)).status_code == 304

    async def test_of_a_missing_transfer_reveals_nothing(self, ada: Person) -> None:
        answer = await ada.get(f"/transfers/{uuid4()}", headers={"If-None-Match": "*"})
        refused(answer, 404, "transfer_not_found")
