"""What an operator types to record money: sums as people write them, kept in the minor unit."""

from decimal import Decimal

from django import forms

from chirp_dashboard.organizations.templatetags.ui import DECIMALS

LARGEST = 10**12  # in the minor unit


class SumForm(forms.Form):
    """Asks for an amount in the currency of `organization`."""

    amount = forms.DecimalField(max_digits=16)

    def __init__(self, *args, organization, **options):
        super().__init__(*args, **options)
        places = DECIMALS.get(organization.currency, 2)
        amount = forms.DecimalField(
            label=f"Amount, {organization.currency}",
            decimal_places=places,
            min_value=Decimal(1).scaleb(-places),
            max_value=Decimal(LARGEST).scaleb(-places),
        )
        self.fields["amount"] = amount
        self.places = places

    def clean_amount(self):
        """In the minor unit."""
        return int(self.cleaned_data["amount"].scaleb(self.places))


class TransferForm(SumForm):
    """A transfer that arrived."""

    received_on = forms.DateField(
        label="Arrived on", widget=forms.DateInput(attrs={"type": "date"})
    )
    reference = forms.CharField(
        max_length=80, help_text="As on the bank statement. The same reference is recorded once."
    )


class CreditForm(SumForm):
    """Something to take off the next invoice, and why."""

    reason = forms.CharField(max_length=200, help_text="Stands on the invoice.")
