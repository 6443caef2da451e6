from django import forms

from chirp_dashboard.organizations.models import Application


class ApplicationField(forms.ModelChoiceField):
    """An application of one organization, by slug.

    Archived ones, and ones of the other kind, are known as well: the verb says why they will not do.
    """

    default_error_messages = {
        "required": "Choose an application.",
        "invalid_choice": "This organization has no such application.",
    }

    def __init__(self, organization, **options):
        applications = Application.objects.filter(organization=organization)
        super().__init__(queryset=applications, to_field_name="slug", **options)

    def to_python(self, value):
        return super().to_python(value.replace("\x00", "") if isinstance(value, str) else value)


class ApplicationForm(forms.Form):
    """Which application a number is assigned to, or removed from."""

    def __init__(self, data=None, *, number, **options):
        super().__init__(data, **options)
        self.fields["application"] = ApplicationField(number.organization)


class MoveForm(forms.Form):
    """From which application to which."""

    def __init__(self, data=None, *, number, **options):
        super().__init__(data, **options)
        self.fields["from"] = ApplicationField(number.organization, label="From")
        self.fields["to"] = ApplicationField(number.organization, label="To")
