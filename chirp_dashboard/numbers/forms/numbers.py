from django import forms

from chirp_dashboard.numbers.models.phone_numbers import LABEL_LENGTH
from chirp_dashboard.numbers.models.releasing import NOW, PERIOD_END


class LabelForm(forms.Form):
    label = forms.CharField(
        max_length=LABEL_LENGTH,
        required=False,
        help_text="What your colleagues know it by, such as “Sales New York”.",
        error_messages={"max_length": "A label has at most %(limit_value)d characters."},
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class LockForm(forms.Form):
    locked = forms.TypedChoiceField(
        choices=[("yes", "Locked"), ("no", "Not locked")],
        coerce=lambda value: value == "yes",
        error_messages={"required": "Say whether the lock is to be on or off."},
    )


class ReleaseForm(forms.Form):
    when = forms.ChoiceField(
        choices=[(PERIOD_END, "At the end of the period"), (NOW, "Now")],
        error_messages={
            "required": "Choose when the number is to be released.",
            "invalid_choice": "Choose the end of the period, or now.",
        },
    )
    expected_end = forms.DateField(required=False)


class UndoReleaseForm(forms.Form):
    expected_cost = forms.IntegerField(required=False)
