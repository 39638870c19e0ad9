"""Pages of lists that continue after a row: the one place that decides whether there is a next page."""

from collections.abc import Callable, Sequence

from api.schemas.base import Page, PageQuery


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
