"""One page of an organization's applications: open or archived, searched, by keyset."""

from urllib.parse import urlencode

from django.db.models import Count, Q, Subquery
from django.utils.functional import cached_property

PAGE = 50
SEARCHABLE = 12


class ApplicationList:
    """Ordered by name, then slug; `after` and `before` name the slug the page begins beside."""

    def __init__(self, organization, query):
        self.all = organization.applications.all()
        self.archived = query.get("state") == "archived"
        self.q = query.get("q", "").replace("\0", "").strip()[:120]
        self.after, self.before = (
            query.get(side, "").replace("\0", "") for side in ("after", "before")
        )

    @cached_property
    def counts(self):
        """How many are open and how many archived."""
        return self.all.aggregate(
            open=Count("pk", filter=Q(archived_at=None)),
            archived=Count("pk", filter=~Q(archived_at=None)),
        )

    @cached_property
    def rows(self):
        """One row more than a page says that there is another page."""
        chosen = self.all.archived() if self.archived else self.all.open()
        rows = chosen.matching(self.q).with_numbers().with_webhook()
        if self.before:
            rows = rows.filter(self._beside(self.before, "lt")).order_by("-name", "-slug")
        else:
            rows = rows.filter(self._beside(self.after, "gt")).order_by("name", "slug")
        return list(rows[: PAGE + 1])

    def _beside(self, slug, side):
        if not slug:
            return Q()
        name = Subquery(self.all.filter(slug=slug).values("name"))
        return Q(**{f"name__{side}": name}) | Q(name=name, **{f"slug__{side}": slug})

    @property
    def applications(self):
        rows = self.rows[:PAGE]
        return rows[::-1] if self.before else rows

    @property
    def newer(self):
        """The address of the page before this one, in the order of names."""
        more = len(self.rows) > PAGE if self.before else bool(self.after)
        return self._page(before=self.applications[0].slug) if more and self.rows else ""

    @property
    def older(self):
        more = bool(self.before) or len(self.rows) > PAGE
        return self._page(after=self.applications[-1].slug) if more and self.rows else ""

    def _page(self, **beside):
        kept = {"state": "archived" if self.archived else "", "q": self.q} | beside
        return "?" + urlencode({key: value for key, value in kept.items() if value})

    @property
    def announcement(self):
        if not self.rows:
            return "No application matches."
        return f"{len(self.applications)} applications" if len(self.rows) > 1 else "1 application"

    @property
    def is_long(self):
        """Whether the list is worth searching."""
        return self.counts["archived" if self.archived else "open"] > SEARCHABLE

    @property
    def without_search(self):
        return "?state=archived" if self.archived else "?"
