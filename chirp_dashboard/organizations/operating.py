"""What every admin page shares: pages that do not count millions, and tables that are only read."""

from django.contrib import admin
from django.core.paginator import Paginator
from django.utils.functional import cached_property

COUNTED_TO = 10_000


class CappedPaginator(Paginator):
    """Counts no further than needed to say "many"; whoever wants what is behind them searches."""

    @cached_property
    def count(self):
        return self.object_list.order_by()[:COUNTED_TO].count()


class Capped:
    """For tables that grow: no exact count, no full count beside a filtered one."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50


def among(field, choices, *, title=None):
    """A filter of `field` by known values, without asking millions of rows which there are."""

    class Among(admin.SimpleListFilter):
        parameter_name = field

        def lookups(self, request, model_admin):
            return [(str(value), label) for value, label in choices]

        def queryset(self, request, queryset):
            return queryset.filter(**{field: self.value()}) if self.value() else queryset

    Among.title = title or field.replace("_", " ")
    return Among


class Kept(Capped, admin.ModelAdmin):
    """Rows written by the verbs of the models: looked at here, never added, changed or deleted."""

    actions = None

    def get_fields(self, request, obj=None):
        """Every column, those that no form would show included."""
        hidden = self.exclude or ()
        return self.fields or [f.name for f in self.opts.fields if f.name not in hidden]

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def has_delete_permission(self, request, obj=None):
        return False


class KeptInline(admin.TabularInline):
    """Rows of a `Kept` table below the row they belong to."""

    extra = 0
    can_delete = False
    show_change_link = True

    def get_readonly_fields(self, request, obj=None):
        return self.fields

    def has_add_permission(self, request, obj=None):
        return False

    def has_change_permission(self, request, obj=None):
        return False


class NeverDeleted:
    """Rows that money, numbers or activity point to."""

    def has_delete_permission(self, request, obj=None):
        return False
