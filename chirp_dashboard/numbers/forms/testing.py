"""What the form for a test number sends."""

import re

from django import forms

from chirp_dashboard.billing.models import NumberType
from chirp_dashboard.numbers.drawing import display
from chirp_dashboard.numbers.models.testing import SERIAL, made_up, problem_of

FORMATTING = re.compile(r"[\s().-]")


class TestNumberForm(forms.Form):
    """A type, and a number; left empty, it is the made-up number that the page offered for the type."""

    __test__ = False  # not a test case

    number_type = forms.ChoiceField(
        choices=NumberType,
        label="Type",
        error_messages={
            "required": "Choose a type.",
            "invalid_choice": "Choose local, toll-free or short code.",
        },
    )
    number = forms.CharField(
        max_length=40,
        required=False,
        help_text="Such as +12125550142, or 5 or 6 digits for a short code. Somebody may really have "
        "it: a test number never meets a real one.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"max_length": "A number has at most 15 digits."},
    )
    serial = forms.IntegerField(
        min_value=SERIAL.start,
        max_value=SERIAL.stop - 1,
        required=False,
        widget=forms.HiddenInput,
    )

    def __init__(self, data=None, *, offered):
        super().__init__(data, initial={"number_type": NumberType.LOCAL})
        self.offered = offered

    @property
    def types(self):
        """Each type with the number it is made up to, and whether it is chosen."""
        chosen = self["number_type"].value()
        return [
            {"value": value, "word": word, "number": display(made_up(value, self.offered)),
             "is_chosen": value == chosen}
            for value, word in NumberType.choices
        ]  # fmt: skip

    def clean(self):
        cleaned = super().clean()
        number_type, typed = cleaned.get("number_type"), cleaned.get("number")
        if number_type and typed:
            cleaned["number"] = written(typed, number_type)
            if problem := problem_of(cleaned["number"], number_type):
                self.add_error("number", problem)
        elif number_type and typed == "" and "serial" in cleaned:
            cleaned["number"] = made_up(number_type, cleaned["serial"] or self.offered)
        return cleaned


def written(typed, number_type):
    """What was typed as it is written in E.164; ten digits are a number of North America."""
    packed = FORMATTING.sub("", typed)
    if number_type == NumberType.SHORT_CODE or not packed.isascii() or not packed.isdigit():
        return packed
    if len(packed) == 10:
        return f"+1{packed}"
    return f"+{packed}" if len(packed) == 11 and packed.startswith("1") else packed
