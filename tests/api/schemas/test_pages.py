"""Pages of lists."""

from typing import Any

import pytest
from pydantic import BaseModel

from api.schemas.base import Page
from api.schemas.pages import long_answer


class Item(BaseModel):
    number: int
    text: str


def item(number: int) -> Item:
    return Item(number=number, text=f'"items":[] and [] of {number} ü')


@pytest.mark.parametrize("count", [0, 1, 2, 10, 11, 1000])
@pytest.mark.parametrize("cursor", [None, '"items":[]'])
async def test_long_answer_is_written_like_a_short_one(count: int, cursor: str | None) -> None:
    rest: dict[str, Any] = {"limit": 1000, "offset": 0, "next_cursor": cursor}
    answer = await long_answer(Page[Item](items=[], **rest), "items", range(count), item)
    assert bytes(answer.body).decode() == Page[Item](items=list(map(item, range(count))), **rest).model_dump_json()
    assert answer.headers["content-type"] == "application/json"


async def test_long_answer_needs_an_empty_list() -> None:
    page = Page[Item](items=[item(1)], limit=1, offset=0, next_cursor=None)
    with pytest.raises(AssertionError):
        await long_answer(page, "items", range(1), item)
