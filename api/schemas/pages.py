"""Pages of lists: whether there is a next page, and how long ones are written."""

from collections.abc import Callable, Sequence

from fastapi import Response
from pydantic import BaseModel

from api.schemas.base import Page, PageQuery
from core import turns


def page_of[Row, Item](
    asked: PageQuery, found: Sequence[Row], *, show: Callable[[Row], Item], cursor: Callable[[Row], str]
) -> Page[Item]:
    """Make a page of the rows found. The query asked for `limit` + 1 rows: the extra one shows that there are more.

    `cursor` seals the place of a row. The next page starts after the last row shown.
    """
    shown = found[: asked.limit]
    return Page(
        items=[show(row) for row in shown],
        limit=asked.limit,
        offset=asked.offset or 0,
        next_cursor=cursor(shown[-1]) if len(found) > len(shown) else None,
    )


async def long_answer[Row](
    answer: BaseModel, items_of: str, rows: Sequence[Row], show: Callable[[Row], BaseModel]
) -> Response:
    """Write an answer whose list `items_of` is empty, with an item for each row, and let the loop turn in between."""
    head, empty, tail = answer.model_dump_json().partition(f'"{items_of}":[]')
    assert empty, "the list is a member of the answer, and empty"
    items = await turns.make(lambda row: show(row).model_dump_json(), rows)
    return Response(f'{head}"{items_of}":[{",".join(items)}]{tail}', media_type="application/json")
