"""What an operator types to record money: sums as people write them, kept in the minor unit."""

import re
from decimal import Decimal

from django import forms

from chirp_dashboard.organizations.forms import visible
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


class DetailsForm(forms.Form):
    """Whom invoices are written to, and who hears of them."""

    FIELDS = ("billing_address", "tax_id", "billing_email")
    LINES = 8

    billing_address = forms.CharField(
        required=False,
        max_length=500,
        label="Address",
        widget=forms.Textarea(attrs={"rows": 4, "autocomplete": "street-address"}),
        help_text="Stands below your organization’s name on invoices, line by line.",
        error_messages={"max_length": "An address has at most %(limit_value)d characters."},
    )
    tax_id = forms.CharField(
        required=False,
        max_length=40,
        label="Tax number",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="Such as a VAT number, if your invoices have to show one.",
        error_messages={"max_length": "A tax number has at most %(limit_value)d characters."},
    )
    billing_email = forms.EmailField(
        required=False,
        label="E-mail for invoices",
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
        error_messages={"invalid": "Write one address, such as accounts@example.com."},
    )

    @classmethod
    def of(cls, organization):
        return {name: getattr(organization, name) for name in cls.FIELDS}

    def clean_billing_address(self):
        lines = [
            " ".join(line.split()) for line in self.cleaned_data["billing_address"].splitlines()
        ]
        lines = [line for line in lines if line]
        if len(lines) > self.LINES:
            raise forms.ValidationError(f"An address has at most {self.LINES} lines.")
        if not all(visible(line) for line in lines):
            raise forms.ValidationError("Leave out invisible control characters.")
        return "\n".join(lines)

    def clean_tax_id(self):
        tax_id = " ".join(self.cleaned_data["tax_id"].split())
        if not re.fullmatch(r"[A-Za-z0-9 ./-]*", tax_id):
            raise forms.ValidationError(
                "A tax number has letters, digits, spaces, dots, hyphens and slashes."
            )
        return tax_id
