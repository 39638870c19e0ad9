"""Pages of lists that go on from a row: the one place that decides whether there is a next one."""

from collections.abc import Callable, Sequence

from api.schemas.base import Page, PageQuery


def page_of[Row, Item](
    asked: PageQuery, found: Sequence[Row], *, show: Callable[[Row], Item], cursor: Callable[[Row], str]
) -> Page[Item]:
    """Make a page of what was found, of which `limit` + 1 rows were asked for: one more says that there is more.

    `cursor` seals the place of a row; the next page goes on behind the last one shown.
    """
    shown = found[: asked.limit]
    return Page(
        items=[show(row) for row in shown],
        limit=asked.limit,
        offset=asked.offset or 0,
        next_cursor=cursor(shown[-1]) if len(found) > len(shown) else None,
    )
