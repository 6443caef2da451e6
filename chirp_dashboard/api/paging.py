"""Pages of a list: `limit` and `cursor` in, rows and the next cursor out.

A cursor names the last row of its page: by its id, or by its number and its id. So the document can say
exactly which texts are cursors.
"""

from django.db.models import F
from ninja import Field, Schema

from chirp_dashboard import keyset
from chirp_dashboard.keyset import Key

from .shapes import Count, shaped

DEFAULT, LARGEST = 20, 100
WRONG = "this cursor is not one of this list"
BY_ID = (Key(F("id"), keyset.whole),)
IdCursor = shaped("([1-9][0-9]{0,17})?", WRONG, longest=18)
NumberCursor = shaped("(p?[0-9]{1,15}-[1-9][0-9]{0,17})?", WRONG, longest=35)


class PageQuery(Schema):
    """A page of a list in the order of its rows' ids."""

    limit: Count = Field(DEFAULT, ge=1, le=LARGEST)
    cursor: IdCursor = Field("", description="The nextCursor of the page before.")

    def read(self, rows, *, descending=False):
        """The dicts of the page of `rows`, and the cursor of the next one or None."""
        token = keyset.encode([int(self.cursor)]) if self.cursor else ""
        page = keyset.read_page(
            rows, BY_ID, descending=descending, after=token, before="", size=self.limit
        )
        return page.rows, f"{page.rows[-1]['key_0']}" if page.older else None


class NumberPageQuery(Schema):
    """A page of a list in the order of its phone numbers."""

    limit: Count = Field(DEFAULT, ge=1, le=LARGEST)
    cursor: NumberCursor = Field("", description="The nextCursor of the page before.")

    @property
    def after(self):
        """The number and the id of the last row of the page before, or None."""
        if not self.cursor:
            return None
        number, _, pk = self.cursor.partition("-")
        return number.replace("p", "+"), int(pk)


def cursor_of(number, pk):
    return f"{number.replace('+', 'p')}-{pk}"
