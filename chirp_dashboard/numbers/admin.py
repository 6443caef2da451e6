"""The operator's desk for stock, holds, orders and numbers."""

import re

from django.contrib import admin, messages
from django.utils import timezone

from chirp_dashboard.billing.admin.asking import Asks
from chirp_dashboard.billing.admin.forms import ReasonForm
from chirp_dashboard.organizations.operating import Capped, Kept, KeptInline, NeverDeleted
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.organizations.templatetags.ui import money

from .area_codes import regions
from .models import Assignment, Hold, InventoryNumber, Order, OrderLine, PhoneNumber, Totals

DIGITS = re.compile(r"[\d\s().+-]+\Z")


class SearchedByDigits:
    """Finds `(212) 555-01` however it is written, by the index of digits; words as Django does."""

    search_fields = ("=number",)
    search_help_text = "Digits of the number, at least three"

    @admin.display(description="number", ordering="number")
    def shown(self, row):
        return row.display.replace(" ", "\N{NO-BREAK SPACE}").replace(
            "-", "\N{NON-BREAKING HYPHEN}"
        )

    def get_search_results(self, request, queryset, search_term):
        term = search_term.replace("\0", "").strip()
        if DIGITS.match(term):
            digits = re.sub(r"\D", "", term)
            return queryset.filter(number__contains=digits), False
        return super().get_search_results(request, queryset, term)


class RegionFilter(admin.SimpleListFilter):
    """States and provinces by name, without asking millions of rows which there are."""

    title = "state or province"
    parameter_name = "region"

    def lookups(self, request, model_admin):
        return [(code, name) for country in ("US", "CA") for code, name in regions(country)]

    def queryset(self, request, queryset):
        return queryset.filter(region=self.value()) if self.value() else queryset


def sums(attribute, *, description=None):
    """A column of money in the currency of its row."""

    @admin.display(description=description or attribute.replace("_", " "), ordering=attribute)
    def column(self, row):
        return money(getattr(row, attribute), row.currency)

    return column


# Stock ----------------------------------------------------------------------------------------


class Availability(admin.SimpleListFilter):
    """What can be sold now, apart from what a release keeps aside."""

    title = "availability"
    parameter_name = "available"

    def lookups(self, request, model_admin):
        return [("now", "For sale now"), ("aside", "Kept aside after a release")]

    def queryset(self, request, queryset):
        now = timezone.now()
        if self.value() == "now":
            return queryset.for_sale(at=now)
        if self.value() == "aside":
            return queryset.filter(not_for_sale_until__gt=now)
        return queryset


@admin.register(InventoryNumber)
class InventoryNumberAdmin(SearchedByDigits, NeverDeleted, Capped, admin.ModelAdmin):
    """Stock is withdrawn rather than deleted; sold and claimed are written by orders alone."""

    list_display = ("shown", "country", "number_type", "location", "status", "not_for_sale_until")
    list_filter = ("status", Availability, "country", "number_type", RegionFilter)
    search_fields = ("=number", "=area_code", "=city")
    search_help_text = "Digits of the number, at least three, or a city. Counts end at 10,000."
    ordering = ("-id",)
    readonly_fields = ("status", "not_for_sale_until")
    actions = ("withdraw", "put_on_sale")

    def get_readonly_fields(self, request, obj=None):
        return (*self.readonly_fields, "country", "number") if obj else self.readonly_fields

    def save_model(self, request, obj, form, change):
        """Only what was typed: an order may have changed the row since the page was drawn."""
        if change and form.changed_data:
            obj.save(update_fields=form.changed_data)
        elif not change:
            obj.save(force_insert=True)

    @admin.action(description="Withdraw from sale", permissions=["change"])
    def withdraw(self, request, queryset):
        status = InventoryNumber.Status
        self._turn(request, queryset, status.FOR_SALE, status.WITHDRAWN, "withdrawn from sale")

    @admin.action(description="Put on sale again", permissions=["change"])
    def put_on_sale(self, request, queryset):
        status = InventoryNumber.Status
        self._turn(request, queryset, status.WITHDRAWN, status.FOR_SALE, "put on sale")

    def _turn(self, request, queryset, before, after, done):
        """In one guarded statement, so that a purchase at the same moment wins or is refused."""
        chosen = queryset.count()
        turned = queryset.filter(status=before).update(status=after)
        self.message_user(request, f"{turned} of {chosen} {done}.", level(turned == chosen))


def level(all_done):
    return messages.SUCCESS if all_done else messages.WARNING


# Holds ----------------------------------------------------------------------------------------


class Lapse(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request, model_admin):
        return [("live", "Live"), ("lapsed", "Lapsed")]

    def queryset(self, request, queryset):
        if self.value() == "live":
            return queryset.live(at=timezone.now())
        if self.value() == "lapsed":
            return queryset.filter(held_until__lte=timezone.now())
        return queryset


@admin.register(Hold)
class HoldAdmin(SearchedByDigits, Kept):
    list_display = ("shown", "organization", "person", "held_at", "held_until", "is_live_now")
    list_filter = (Lapse, "organization", "held_at")
    list_select_related = ("organization", "person")
    search_fields = ("person__email", "person__name")
    search_help_text = "Digits of the number, or the person who holds it"
    ordering = ("-id",)
    actions = ("let_go",)

    @admin.display(boolean=True, description="live")
    def is_live_now(self, hold):
        return hold.is_live(at=timezone.now())

    def has_let_go_permission(self, request):
        return request.user.has_perm("numbers.delete_hold")

    @admin.action(description="Release stuck holds", permissions=["let_go"])
    def let_go(self, request, queryset):
        holds = queryset.select_related("organization", "person")
        freed = sum(
            Hold.objects.let_go(hold.organization, hold.person, [hold.key]) for hold in holds
        )
        self.message_user(request, f"Released: {freed}. The numbers can be chosen again.")


# Orders ---------------------------------------------------------------------------------------


class LinesOfOrder(KeptInline):
    model = OrderLine
    fields = ("public_id", "number", "state", "reason", "purchase_fee", "first_rental", "rental")


@admin.register(Order)
class OrderAdmin(Kept):
    list_display = (
        "public_id", "organization", "state", "reason", "amount", "placer", "placed_at", "attempts",
    )  # fmt: skip
    list_filter = ("state", "organization", "gateway", "placed_at", "settled_at")
    list_select_related = ("organization", "placed_by", "placed_by_key")
    search_fields = ("=public_id", "=idempotency_key", "placed_by__email")
    search_help_text = "Public id or person"
    ordering = ("-id",)
    inlines = (LinesOfOrder,)
    actions = ("advance", "resume")
    amount = sums("total")

    def has_advance_permission(self, request):
        return request.user.has_perm("numbers.change_order")

    @admin.action(description="Take the next step now", permissions=["advance"])
    def advance(self, request, queryset):
        """For an order whose time for another look has come while no worker ran."""
        for order in queryset.select_related("organization"):
            before = order.state
            order.advance(at=timezone.now())
            moved = order.get_state_display() if order.state != before else "nothing to do now"
            self.message_user(request, f"{order}: {moved}.", level(order.state != before))

    @admin.action(description="Look again at a stuck order", permissions=["advance"])
    def resume(self, request, queryset):
        """For an order that was given up as unanswered: ask gateway and carrier once more."""
        at = timezone.now()
        for order in queryset.select_related("organization"):
            try:
                order.resume(by=request.user, at=at)
            except Refused as refusal:
                self.message_user(request, str(refusal), messages.WARNING)
                continue
            order.advance(at=at)
            self.message_user(request, f"{order}: {order.get_state_display()}.")


@admin.register(OrderLine)
class OrderLineAdmin(SearchedByDigits, Asks, Kept):
    list_display = ("public_id", "shown", "order", "organization", "state", "reason", "carrier",
                    "refunded_at")  # fmt: skip
    list_filter = ("state", "carrier", "number_type", "order__placed_at",
                   ("refunded_at", admin.EmptyFieldListFilter))  # fmt: skip
    list_select_related = ("order__organization",)
    search_fields = ("=public_id", "=order__public_id")
    search_help_text = "Digits of the number, or the public id of line or order"
    ordering = ("-id",)
    raw_id_fields = ("order", "phone_number")
    actions = ("refund",)

    @admin.display(ordering="order__organization__name")
    def organization(self, line):
        return line.order.organization

    def has_refund_permission(self, request):
        return request.user.has_perm("numbers.change_orderline")

    @admin.action(description="Refund a line that never worked…", permissions=["refund"])
    def refund(self, request, queryset):
        return self.ask(
            request, queryset.select_related("order__organization"), action="refund",
            title="Refund a line", form_class=ReasonForm, preview=self._preview,
            template="admin/numbers/refund_line.html",
            organization_of=lambda line: line.order.organization,
            do=lambda line, answer: self._refund(request, line, answer),
        )  # fmt: skip

    def _preview(self, line, answer):
        return {"line": line, "answer": answer, "button": "Refund it"}

    def _refund(self, request, line, answer):
        if line.is_refunded:
            raise Refused(f"{line.display} was refunded already.")
        line.refund(reason=answer["reason"], by=request.user, at=timezone.now())
        return f"{line.display} is given back and its charges are credited."


# Numbers --------------------------------------------------------------------------------------


class AssignmentsOfNumber(KeptInline):
    model = Assignment
    fields = ("application", "assigned_at", "assigned_by", "ended_at", "ended_because")

    def get_queryset(self, request):
        return super().get_queryset(request).select_related("application", "assigned_by")


class Releasing(admin.SimpleListFilter):
    title = "release"
    parameter_name = "release"

    def lookups(self, request, model_admin):
        return [("scheduled", "Scheduled"), ("locked", "Locked against release")]

    def queryset(self, request, queryset):
        return {
            "scheduled": queryset.live().filter(releases_on__isnull=False),
            "locked": queryset.filter(release_locked=True),
        }.get(self.value(), queryset)


@admin.register(PhoneNumber)
class PhoneNumberAdmin(SearchedByDigits, Kept):
    list_display = (
        "shown", "label", "organization", "number_type", "is_test", "state", "rent",
        "assignment_count", "releases_on", "purchased_at",
    )  # fmt: skip
    list_filter = (
        "state", Releasing, "organization", "number_type", "is_test", "purchased_at",
    )  # fmt: skip
    list_select_related = ("organization",)
    search_fields = ("=public_id",)
    search_help_text = (
        "Digits of the number, part of its label or city, or its public id. Counts end at 10,000."
    )
    ordering = ("-id",)
    inlines = (AssignmentsOfNumber,)
    exclude = ("search",)
    actions = ("lock", "unlock")
    rent = sums("rental_amount", description="rental")

    def get_search_results(self, request, queryset, search_term):
        """Words are looked for in the column that is indexed for them."""
        found, more = super().get_search_results(request, queryset, search_term)
        term = search_term.replace("\0", "").strip()
        if term and not DIGITS.match(term) and not term.startswith("ph_"):
            return queryset.filter(search__contains=term.lower()), False
        return found, more

    def has_lock_permission(self, request):
        return request.user.has_perm("numbers.change_phonenumber")

    @admin.action(description="Lock against release", permissions=["lock"])
    def lock(self, request, queryset):
        self._set_lock(request, queryset, True)

    @admin.action(description="Unlock release", permissions=["lock"])
    def unlock(self, request, queryset):
        self._set_lock(request, queryset, False)

    def _set_lock(self, request, queryset, locked):
        for number in queryset.select_related("organization"):
            try:
                number.set_release_lock(locked, by=request.user, at=timezone.now())
            except Refused as refusal:
                self.message_user(request, str(refusal), messages.WARNING)
        done = "Locked against release" if locked else "Unlocked"
        self.message_user(request, f"{done}: {queryset.count()}.")


@admin.register(Assignment)
class AssignmentAdmin(SearchedByDigits, Kept):
    list_display = (
        "number", "application", "organization", "assigned_at", "assigned_by", "ended_at",
        "ended_because",
    )  # fmt: skip
    list_filter = (
        ("ended_at", admin.EmptyFieldListFilter), "ended_because", "organization", "assigned_at",
    )  # fmt: skip
    list_select_related = ("application", "organization", "assigned_by")
    search_fields = ("application__name", "application__slug")
    search_help_text = "Digits of the number, or application"
    ordering = ("-id",)


@admin.register(Totals)
class TotalsAdmin(Kept):
    """Kept by the verbs; `check_books` compares them with the rows."""

    list_display = ("organization", "numbers", "rent")
    list_select_related = ("organization",)
    search_fields = ("organization__name", "organization__slug")
    ordering = ("-numbers",)

    @admin.display(description="monthly rental", ordering="monthly")
    def rent(self, totals):
        return money(totals.monthly, totals.organization.currency)
