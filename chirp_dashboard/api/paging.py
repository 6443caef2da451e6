"""Pages of a list: `limit` and `cursor` in, rows and the next cursor out."""

from ninja import Field, Schema

from chirp_dashboard import keyset

from .errors import ApiError

DEFAULT, LARGEST = 20, 100


class PageQuery(Schema):
    limit: int = Field(DEFAULT, ge=1, le=LARGEST)
    cursor: str = Field("", max_length=keyset.LONGEST_TOKEN)


def read(rows, keys, query, *, descending=False):
    """The dicts of the page of `rows` that `query` asks for, and the cursor of the next one or None."""
    if query.cursor and keyset.decode(query.cursor, keys) is None:
        raise ApiError(400, "This cursor is not one of this list.", param="cursor")
    page = keyset.read_page(
        rows, keys, descending=descending, after=query.cursor, before="", size=query.limit
    )
    return page.rows, page.older or None
