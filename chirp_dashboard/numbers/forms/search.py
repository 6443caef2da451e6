"""The filters of the purchase page: from what was typed to `Criteria`, and back to an address."""

import difflib

from django import forms
from django.core.validators import RegexValidator
from django.utils.http import urlencode

from chirp_dashboard.billing.models import NumberType
from chirp_dashboard.numbers.area_codes import TOLL_FREE, area_codes, cities, regions
from chirp_dashboard.numbers.models.inventory import Capability
from chirp_dashboard.numbers.search import Criteria, Position

COUNTRIES = {"US": "United States", "CA": "Canada"}
LONGEST_NUMBER = {"+1": 10, "": 6}

validate_number = RegexValidator(
    r"^(\+[1-9][0-9]{6,14}|[0-9]{4,6})\Z",
    "This address names a page that does not exist. Search again.",
)


def country_name(code):
    return COUNTRIES.get(code, code)


class SearchForm(forms.Form):
    """Everything is optional: what is left empty is not asked for.

    The countries on offer are those with a price, which come with the results; see `offer_countries`.
    """

    country = forms.CharField(max_length=2, required=False, widget=forms.Select)
    region = forms.CharField(max_length=60, required=False, label="State or province")
    place = forms.CharField(max_length=80, required=False, label="City or area code")
    digits = forms.CharField(
        max_length=40,
        required=False,
        label="Digits or letters",
        help_text="Such as 7777, 555-CAT or FLOWERS.",
    )
    position = forms.ChoiceField(choices=Position, required=False, label="Where in the number")
    can = forms.MultipleChoiceField(
        choices=Capability,
        required=False,
        label="Must be able to",
        widget=forms.CheckboxSelectMultiple,
    )
    after = forms.CharField(required=False, validators=[validate_number], widget=forms.HiddenInput)
    before = forms.CharField(required=False, validators=[validate_number], widget=forms.HiddenInput)

    def __init__(self, number_type, data):
        super().__init__(data, auto_id="id_%s", use_required_attribute=False)
        self.number_type = number_type
        if number_type == NumberType.TOLL_FREE:
            del self.fields["region"]
            codes = [("", "Any")] + [(code, code) for code in TOLL_FREE]
            self.fields["place"] = forms.ChoiceField(choices=codes, required=False, label="Prefix")
        elif number_type == NumberType.SHORT_CODE:
            del self.fields["region"], self.fields["place"]
            self.fields["digits"].help_text = "Such as 7777 or CAT."
        for name in {"region", "place", "digits"} & self.fields.keys():
            self.fields[name].widget.attrs |= {"autocomplete": "off"}
        for name in {"region", "place"} & self.fields.keys():
            if number_type == NumberType.LOCAL:
                self.fields[name].widget.attrs["list"] = f"{name}s"

    def offer_countries(self, codes):
        names = sorted((country_name(code), code) for code in codes)
        self.fields["country"].widget.choices = [(code, name) for name, code in names]

    @property
    def chosen_country(self):
        """The country asked for, even while the rest of the form needs mending."""
        return getattr(self, "cleaned_data", {}).get("country") or "US"

    def clean_country(self):
        return self.cleaned_data["country"].upper() or "US"

    def clean_position(self):
        return self.cleaned_data["position"] or Position.CONTAINS

    def clean_region(self):
        typed = self.cleaned_data["region"].strip()
        known = regions(self.chosen_country)
        if not typed or not known:
            return typed.upper()
        for code, name in known:
            if typed.casefold() in {code.casefold(), name.casefold()}:
                return code
        near = difflib.get_close_matches(typed.title(), [name for _, name in known], n=1)
        hint = f"Did you mean {near[0]}?" if near else "Choose one from the list."
        raise forms.ValidationError(f"No state or province here is called “{typed}”. {hint}")

    def clean_place(self):
        typed = self.cleaned_data["place"].strip()
        if self.number_type == NumberType.LOCAL and typed.isdigit():
            place = area_codes().get(typed)
            if place is None or place.country != self.chosen_country:
                raise forms.ValidationError(f"{typed} is not an area code of this country.")
        return typed

    def clean_digits(self):
        typed = self.cleaned_data["digits"].strip()
        if not typed:
            return ""
        strange = [c for c in typed if c.isalnum() and not c.isascii()]
        if strange:
            raise forms.ValidationError(f"“{strange[0]}” is not on a telephone's keypad.")
        criteria = self._criteria(pattern=typed)
        length = len(criteria.digits)
        longest = LONGEST_NUMBER.get(criteria.calling_code, 14)
        if length == 0:
            raise forms.ValidationError("Write at least one digit or letter.")
        if length > longest:
            raise forms.ValidationError(
                f"These are {length} digits; a number here has {longest}. Leave some out."
            )
        return typed

    @property
    def criteria(self):
        """What a valid form asks for."""
        cleaned = self.cleaned_data
        area_code, city, region = "", "", cleaned.get("region", "")
        place = cleaned.get("place", "")
        if place.isdigit():
            area_code = place
        elif place:
            city, region = find_city(self.chosen_country, place, region)
        return self._criteria(
            region=region,
            city=city,
            area_code=area_code,
            pattern=cleaned["digits"],
            position=cleaned["position"],
            capabilities=tuple(cleaned["can"]),
        )

    def _criteria(self, **values):
        return Criteria(number_type=self.number_type, country=self.chosen_country, **values)


def find_city(country, typed, region):
    """(city, state) for "new york" or "Portland, OR"; a city nobody knows stays as it was typed.

    The state stays empty where several have a city of that name and none was given.
    """
    name, _, state = (part.strip() for part in typed.partition(","))
    codes = [code for code, _ in regions(country)]
    region = region or (state.upper() if state.upper() in codes else "")
    homes = {
        (city, code)
        for code in ([region] if region else codes)
        for city in cities(country, code)
        if city.casefold() == name.casefold()
    }
    if not homes:
        return name, region
    city, home = min(homes)
    return city, home if len(homes) == 1 else region


def search_query(criteria, **page):
    """The query string that asks for `criteria`: what the form would send, and which page of it."""
    values = {
        "country": criteria.country,
        "region": criteria.region,
        "place": criteria.area_code or criteria.city,
        "digits": criteria.pattern,
        "position": criteria.position if criteria.pattern else "",
        "can": criteria.capabilities,
        **page,
    }
    return urlencode({name: value for name, value in values.items() if value}, doseq=True)


def in_words(criteria, name):
    """One filter as a person would say it: "ending with 7777", "New York"."""
    if name == "pattern":
        return f"{Position(criteria.position).label.lower()} {criteria.pattern}"
    if name == "capabilities":
        return " and ".join(criteria.capabilities)
    if name == "region":
        return dict(regions(criteria.country)).get(criteria.region, criteria.region)
    return getattr(criteria, name)


def places_of(country, region=""):
    """What the box for a city or area code proposes: `(value, what it is)`."""
    here = [
        place
        for place in area_codes().values()
        if place.country == country and region in ("", place.region)
    ]
    codes = {}
    for place in here:
        codes.setdefault((place.city, place.region), []).append(place.code)
    by_city = [(f"{city}, {home}", ", ".join(found)) for (city, home), found in codes.items()]
    return sorted(by_city) + [(place.code, f"{place.city}, {place.region}") for place in here]
