"""What the purchase pages send: numbers by country and digits, and the order that completes a quote."""

import re

from django import forms

NUMBER_KEY = re.compile(r"([A-Z]{2}):(\+[1-9][0-9]{6,14}|[0-9]{4,6})")


def number_key(text):
    """`("US", "+12125550142")` for "US:+12125550142"; None for anything else."""
    match = NUMBER_KEY.fullmatch(text)
    return match.groups() if match else None


class NumberKeysField(forms.Field):
    widget = forms.MultipleHiddenInput

    def to_python(self, value):
        keys = [number_key(text) for text in value or ()]
        if None in keys:
            raise forms.ValidationError(
                "This form names a number that does not exist. Start again."
            )
        return keys


class OrderForm(forms.Form):
    """Completes a quote: the numbers and the total that were shown, and a key that makes repeats safe."""

    number = NumberKeysField(error_messages={"required": "Choose at least one number."})
    expected_total = forms.IntegerField(min_value=0, widget=forms.HiddenInput)
    idempotency_key = forms.CharField(max_length=80, widget=forms.HiddenInput)
    application = forms.ModelChoiceField(
        queryset=None,
        to_field_name="slug",
        required=False,
        label="Assign to",
        error_messages={
            "invalid_choice": "No live application has this name. Choose one from the list."
        },
    )

    def __init__(self, applications, data=None):
        super().__init__(data)
        self.fields["application"].queryset = applications
