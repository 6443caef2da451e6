"""Choosing numbers for an application: a search among those it could have, never a list of them all."""

from urllib.parse import urlencode

from django.db.models import Exists, OuterRef
from django.db.models.functions import Least
from django.utils.functional import cached_property

from .drawing import Drawing, with_facts
from .listing import LONGEST_SEARCH, matching
from .models import Assignment, PhoneNumber

AT_ONCE = 50
SHOWN = 50
LOOKED_THROUGH = 500  # of those that match, in order of number: a bound on the work


class Picker:
    """What was searched and chosen for `application`, and what can be chosen."""

    def __init__(self, application, asked, *, on):
        self.application, self.on = application, on
        self.q = " ".join(asked.get("q", "").replace("\x00", "").split())[:LONGEST_SEARCH]
        self.ids = list(dict.fromkeys(asked.getlist("number")))
        self.wants_to_confirm = "confirm" in asked

    @property
    def problem(self):
        """What has to be mended before the choice can be confirmed."""
        if len(self.ids) > AT_ONCE:
            return f"Choose at most {AT_ONCE} numbers at once; {len(self.ids)} are chosen."
        if self.wants_to_confirm and not self.ids:
            return "Choose at least one number."
        if self.wants_to_confirm and not self.chosen:
            return "These numbers are not here any more. Choose again."
        return ""

    @property
    def is_confirming(self):
        return self.wants_to_confirm and not self.problem

    @property
    def query(self):
        """The query string of the choice so far."""
        return urlencode([("q", self.q), *(("number", each) for each in self.ids)])

    @cached_property
    def chosen(self):
        """The numbers chosen so far, of this organization; assigned ones too, so that each gets an answer."""
        ids = [each for each in self.ids if "\x00" not in each][: AT_ONCE + 1]
        if not ids or len(ids) > AT_ONCE:
            return []
        found = PhoneNumber.objects.filter(
            organization=self.application.organization_id, public_id__in=ids
        )
        return list(found.select_related("organization").order_by("number", "id"))

    @cached_property
    def found(self):
        """The first numbers that match and could be assigned: those without any application first."""
        here = Assignment.objects.open().filter(
            application=self.application, phone_number=OuterRef("pk")
        )
        first = self._matching().order_by("number", "id").values("pk")
        idle = first.filter(assignment_count=0)[:SHOWN]
        rows = (
            PhoneNumber.objects.filter(pk__in=first[:LOOKED_THROUGH].union(idle))
            .exclude(public_id__in=[number.public_id for number in self.chosen])
            .filter(~Exists(here))
            .order_by(Least("assignment_count", 1), "number", "id")
        )
        return list(with_facts(rows)[: SHOWN + 1])

    @property
    def shown(self):
        draw = Drawing(self.application.organization, on=self.on).draw
        return [draw(row) for row in self.found[:SHOWN]]

    @property
    def has_more(self):
        return len(self.found) > SHOWN

    def _matching(self):
        numbers = PhoneNumber.objects.live().filter(
            organization=self.application.organization_id,
            state=PhoneNumber.State.ACTIVE,
            is_test=self.application.is_test,
        )
        return numbers.filter(matching(self.q)) if self.q else numbers
