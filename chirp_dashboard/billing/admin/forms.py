"""What an operator types before an action: each form is asked for one organization, or for everyone."""

from django import forms

from chirp_dashboard.billing.forms import SumForm
from chirp_dashboard.billing.models.price_changes import NOTICE

DAY = forms.DateInput(attrs={"type": "date"})


class AskedForm(forms.Form):
    def __init__(self, *args, organization, **options):
        super().__init__(*args, **options)
        self.organization = organization


class ReasonForm(AskedForm):
    """Why, for whoever reads the history."""

    reason = forms.CharField(max_length=200)


class AnnounceForm(AskedForm):
    """From which period running rentals have the price, and why."""

    applies_from = forms.DateField(
        label="First period",
        widget=DAY,
        help_text="Periods that begin on this day or later have the new price. "
        f"At least {NOTICE.days} days from today.",
    )
    reason = forms.CharField(max_length=200, help_text="Stands in the announcement.")


class RefundForm(SumForm):
    """Part of a payment to give back, and why."""

    reason = forms.CharField(max_length=200, help_text="Stands in the mail.")


class HoldForm(AskedForm):
    """Until when dunning stays where it is, and why."""

    until = forms.DateField(label="Hold until", widget=DAY)
    reason = forms.CharField(max_length=200)
