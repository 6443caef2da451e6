"""The operator's desk: people, organizations, applications, and what was done."""

from allauth.account.decorators import secure_admin_login
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.utils import timezone

from .models import (
    Activity,
    ApiKey,
    Application,
    Delivery,
    DeliveryAttempt,
    Mail,
    Membership,
    Organization,
    PaymentsUnderWay,
    User,
    Webhook,
)
from .operating import Capped, Kept, KeptInline, NeverDeleted, among
from .refusals import Refused

admin.site.site_header = admin.site.site_title = "Operating phone numbers"
admin.site.index_title = "Everything of this deployment"
admin.site.login = secure_admin_login(admin.site.login)  # the same sign-in as everybody's


# People ---------------------------------------------------------------------------------------


class UserAddForm(AdminUserCreationForm):
    class Meta:
        model = User
        fields = ("email", "name")
        field_classes = {}


class UserEditForm(UserChangeForm):
    class Meta:
        model = User
        fields = "__all__"
        field_classes = {}


class MembershipForm(forms.ModelForm):
    """Who belongs where is settled when the membership is written; afterwards only the role changes."""

    class Meta:
        model = Membership
        fields = ("organization", "user", "role")

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        if self.instance.pk:
            for name in {"organization", "user"} & set(self.fields):
                self.fields[name].disabled = True


class MembershipInline(admin.TabularInline):
    model = Membership
    form = MembershipForm
    extra = 0
    verbose_name = "membership"

    def get_queryset(self, request):
        return super().get_queryset(request).select_related("organization", "user")


class OrganizationsOfUser(MembershipInline):
    fields = ("organization", "role")
    autocomplete_fields = ("organization",)


class PeopleOfOrganization(MembershipInline):
    fields = ("user", "role")
    autocomplete_fields = ("user",)


class WritesMemberships:
    """Saves memberships through their verbs, so that each change leaves an activity row."""

    def save_formset(self, request, form, formset, change):
        if formset.model is not Membership:
            super().save_formset(request, form, formset, change)
            return
        formset.save(commit=False)
        for membership in formset.deleted_objects:
            membership.end(by=request.user, at=timezone.now())
        for membership in formset.new_objects:
            write_membership(membership, by=request.user)
        for membership, _ in formset.changed_objects:
            write_membership(membership, by=request.user)


def write_membership(membership, *, by):
    organization, user, role = membership.organization, membership.user, membership.role
    organization.admit(user, role, by=by, at=timezone.now())


@admin.register(User)
class UserAdmin(WritesMemberships, NeverDeleted, Capped, DjangoUserAdmin):
    """People are added here. They are switched off, never deleted: what they did names them."""

    form = UserEditForm
    add_form = UserAddForm
    list_display = ("email", "name", "is_active", "is_staff", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser", "last_login")
    search_fields = ("email", "name")
    ordering = ("email",)
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("email", "name", "password")}),
        ("May", {"fields": ("is_active", "is_staff", "is_superuser")}),
        ("Permissions in this admin", {"classes": ("collapse",), "fields": ("groups", "user_permissions")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )  # fmt: skip
    add_fieldsets = (
        (None, {"fields": ("email", "name", "usable_password", "password1", "password2")}),
    )
    inlines = (OrganizationsOfUser,)

    def get_inlines(self, request, obj):
        return self.inlines if obj else ()


# Organizations --------------------------------------------------------------------------------


class ApplicationsOfOrganization(KeptInline):
    model = Application
    fields = ("name", "slug", "kind", "created_at", "archived_at")
    verbose_name = "application"


class OrganizationForm(forms.ModelForm):
    """With the gateways that are set up here, and the one the organization has."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        if "gateway" in self.fields:
            ours = self.instance.gateway
            customers = Organization._meta.get_field("customers").related_model
            choices = dict(customers.gateways())
            choices.setdefault(ours, f"{ours}, not set up here")
            self.fields["gateway"] = forms.ChoiceField(choices=list(choices.items()))

    def clean_gateway(self):
        """Changed only while nothing is under way."""
        gateway = self.cleaned_data["gateway"]
        if self.instance.pk and "gateway" in self.changed_data and self.instance.is_paying():
            raise forms.ValidationError(str(PaymentsUnderWay()))
        return gateway


@admin.register(Organization)
class OrganizationAdmin(WritesMemberships, NeverDeleted, Capped, admin.ModelAdmin):
    form = OrganizationForm
    list_display = (
        "name",
        "slug",
        "currency",
        "gateway",
        "time_zone",
        "billing_day",
        "created_at",
    )
    list_filter = ("currency", "gateway", "created_at")
    search_fields = ("name", "slug", "=public_id")
    inlines = (PeopleOfOrganization, ApplicationsOfOrganization)
    readonly_fields = ("public_id", "created_at")

    def get_readonly_fields(self, request, obj=None):
        """The slug stands in addresses; the terms are fixed once something was billed in them."""
        fixed = list(self.readonly_fields)
        if obj:
            fixed.append("slug")
        if obj and obj.terms_are_fixed():
            fixed += Organization.TERMS
        return fixed

    def get_inlines(self, request, obj):
        return self.inlines if obj else ()

    def save_model(self, request, obj, form, change):
        if not change:
            obj.save(force_insert=True)
            return
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        try:
            obj.change_settings(changes, by=request.user, at=timezone.now())
        except Refused as refusal:  # something began while the form was open
            self.message_user(request, str(refusal), messages.ERROR)


@admin.register(Membership)
class MembershipAdmin(Capped, admin.ModelAdmin):
    form = MembershipForm
    list_display = ("user", "organization", "role", "created_at")
    list_filter = ("role", "created_at")
    list_select_related = ("user", "organization")
    search_fields = ("user__email", "user__name", "organization__name", "organization__slug")
    ordering = ("organization__name", "user__email")
    autocomplete_fields = ("user", "organization")
    actions = None

    def save_model(self, request, obj, form, change):
        if change:
            Membership.objects.get(pk=obj.pk).change_role(
                obj.role, by=request.user, at=timezone.now()
            )
            return
        membership = obj.organization.admit(obj.user, obj.role, by=request.user, at=timezone.now())
        obj.pk, obj._state.adding = membership.pk, False

    def delete_model(self, request, obj):
        obj.end(by=request.user, at=timezone.now())


# Applications ---------------------------------------------------------------------------------


class WebhookOfApplication(KeptInline):
    model = Webhook
    fields = ("host", "events", "header_names", "updated_at")

    @admin.display(description="headers")
    def header_names(self, webhook):
        return ", ".join(sorted(webhook.headers)) or "–"


@admin.register(Application)
class ApplicationAdmin(NeverDeleted, Capped, admin.ModelAdmin):
    """Archived from the dashboard, where the page says what becomes of its numbers."""

    list_display = ("name", "slug", "organization", "kind", "created_at", "archived_at")
    list_filter = ("kind", ("archived_at", admin.EmptyFieldListFilter), "created_at")
    list_select_related = ("organization",)
    search_fields = ("name", "slug", "=public_id", "organization__name")
    ordering = ("organization__name", "name", "id")
    autocomplete_fields = ("organization",)
    readonly_fields = ("public_id", "created_at", "archived_at")
    fields = ("name", "slug", "organization", "kind", *readonly_fields)
    inlines = (WebhookOfApplication,)

    def get_readonly_fields(self, request, obj=None):
        return (
            (*self.readonly_fields, "slug", "organization", "kind") if obj else self.readonly_fields
        )

    def get_inlines(self, request, obj):
        return self.inlines if obj else ()

    def has_change_permission(self, request, obj=None):
        return super().has_change_permission(request, obj) and not (obj and obj.is_archived)

    def save_model(self, request, obj, form, change):
        if change:
            name = form.cleaned_data["name"]
            Application.objects.get(pk=obj.pk).rename(name, by=request.user, at=timezone.now())
            return
        added = Application.objects.add(
            obj.organization, name=obj.name, slug=obj.slug, kind=obj.kind,
            by=request.user, at=timezone.now(),
        )  # fmt: skip
        obj.pk, obj.public_id, obj._state.adding = added.pk, added.public_id, False


@admin.register(Webhook)
class WebhookAdmin(Kept):
    """Set in the dashboard. Headers are secrets: only their names are shown."""

    list_display = ("host", "application", "organization", "updated_at")
    list_filter = ("updated_at",)
    list_select_related = ("application__organization",)
    search_fields = ("url", "application__name", "application__slug")
    ordering = ("-id",)
    fields = (
        "public_id",
        "application",
        "host",
        "events",
        "header_names",
        "created_at",
        "updated_at",
    )

    @admin.display(ordering="application__organization__name")
    def organization(self, webhook):
        return webhook.application.organization

    @admin.display(description="headers")
    def header_names(self, webhook):
        return ", ".join(sorted(webhook.headers)) or "–"


@admin.register(ApiKey)
class ApiKeyAdmin(Kept):
    """Made in the dashboard, where it is shown once. An operator can end one that leaked."""

    list_display = ("name", "preview", "organization", "application", "created_at", "used_at",
                    "revoked_at")  # fmt: skip
    list_filter = ("kind", "is_test", ("revoked_at", admin.EmptyFieldListFilter), "created_at")
    list_select_related = ("organization", "application")
    search_fields = ("name", "=public_id", "=ending", "organization__name", "organization__slug")
    ordering = ("-id",)
    exclude = ("id", "digest")
    actions = ("revoke",)

    def has_revoke_permission(self, request):
        return request.user.has_perm("organizations.change_apikey")

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke(self, request, queryset):
        keys = list(queryset.in_use().select_related("organization", "application"))
        for key in keys:
            key.revoke(by=request.user, at=timezone.now())
        self.message_user(request, f"Revoked {len(keys)}.")


class AttemptsOfDelivery(KeptInline):
    model = DeliveryAttempt
    fields = ("at", "status", "error", "milliseconds", "answer")
    verbose_name = "try"
    verbose_name_plural = "tries"


@admin.register(Delivery)
class DeliveryAdmin(Kept):
    """What webhooks were told. Redelivered from the dashboard."""

    list_display = ("message_id", "event", "webhook", "organization", "state", "tries",
                    "happened_at", "next_try_at")  # fmt: skip
    list_filter = ("state", "event", "happened_at")
    list_select_related = ("webhook__application__organization",)
    search_fields = ("=message_id", "webhook__application__slug")
    ordering = ("-id",)
    inlines = (AttemptsOfDelivery,)

    @admin.display(ordering="webhook__application__organization__name")
    def organization(self, delivery):
        return delivery.webhook.application.organization


@admin.register(Activity)
class ActivityAdmin(Kept):
    """What was done, by whom; kept for ever."""

    list_display = ("at", "organization", "actor_name", "verb", "subject_name")
    list_display_links = ("at",)
    list_filter = ("organization", "actor_kind", "at")
    list_select_related = ("organization",)
    search_fields = ("=subject", "subject_name", "actor_name", "=verb")
    search_help_text = "Public id, number, person, or verb such as released. Counts end at 10,000."
    ordering = ("-id",)


# Mail -----------------------------------------------------------------------------------------


MAIL_KINDS = [
    (path.stem, path.stem.replace("_", " "))
    for path in sorted((settings.BASE_DIR / "templates" / "mail").glob("[a-z]*.txt"))
]


class MailState(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request, model_admin):
        return [("sent", "Sent"), ("due", "Due"), ("failed", "Failed; waits for an operator")]

    def queryset(self, request, queryset):
        return {
            "sent": queryset.exclude(sent_at=None),
            "due": queryset.filter(sent_at=None, next_try_at__isnull=False),
            "failed": queryset.waiting(),
        }.get(self.value(), queryset)


@admin.register(Mail)
class MailAdmin(Kept):
    """Every mail as it was written. What could not be sent waits here."""

    list_display = ("subject", "state", "organization", "created_at", "sent_at", "tries", "error")
    list_filter = (MailState, among("kind", MAIL_KINDS), "created_at", "organization")
    list_select_related = ("organization",)
    search_fields = ("=key", "subject", "=kind", "organization__slug")
    search_help_text = "Key, words of the subject, kind, or slug of an organization"
    ordering = ("-id",)
    actions = ("resend",)

    def has_resend_permission(self, request):
        return request.user.has_perm("organizations.change_mail")

    @admin.action(description="Send again", permissions=["resend"])
    def resend(self, request, queryset):
        for mail in queryset.select_related("organization"):
            mail.resend(by=request.user, at=timezone.now())
        self.message_user(request, f"Sent again by the worker: {queryset.count()}.")
