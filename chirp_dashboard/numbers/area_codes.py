"""Where a North American number is: area code → country, region, city and time zone.

The table holds every geographic area code that can be dialled in the United States (50 states and
the District of Columbia) and in Canada. It is data, made once by ``manage.py generate_area_codes``
and read on first use.

Not in it:

* Toll-free codes (``TOLL_FREE``) and the codes of personal, premium and machine numbers
  (5XX, 900, 600, 622 …): they belong to no place.
* Puerto Rico, the Virgin Islands, Guam, American Samoa and the Northern Marianas. They share the +1
  but have country codes of their own in ISO 3166, in ``phonenumbers`` and in every carrier's price
  list, so a number of theirs is not a number of the United States here either.

An area code has one answer even where it spans several regions: the region and city with most of
its exchanges. So 867 (Yukon, Northwest Territories, Nunavut) is Whitehorse, Yukon, and 902 (Nova
Scotia, Prince Edward Island) is Halifax, Nova Scotia. `regions` names all of them all the same,
because stock may say more precisely than its area code where a number is.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

AREA_CODES_CSV = Path(__file__).parent / "data" / "area_codes.csv"

TOLL_FREE = ("800", "833", "844", "855", "866", "877", "888")

REGIONS = {
    "US": {
        "AL": "Alabama",
        "AK": "Alaska",
        "AZ": "Arizona",
        "AR": "Arkansas",
        "CA": "California",
        "CO": "Colorado",
        "CT": "Connecticut",
        "DE": "Delaware",
        "DC": "District of Columbia",
        "FL": "Florida",
        "GA": "Georgia",
        "HI": "Hawaii",
        "ID": "Idaho",
        "IL": "Illinois",
        "IN": "Indiana",
        "IA": "Iowa",
        "KS": "Kansas",
        "KY": "Kentucky",
        "LA": "Louisiana",
        "ME": "Maine",
        "MD": "Maryland",
        "MA": "Massachusetts",
        "MI": "Michigan",
        "MN": "Minnesota",
        "MS": "Mississippi",
        "MO": "Missouri",
        "MT": "Montana",
        "NE": "Nebraska",
        "NV": "Nevada",
        "NH": "New Hampshire",
        "NJ": "New Jersey",
        "NM": "New Mexico",
        "NY": "New York",
        "NC": "North Carolina",
        "ND": "North Dakota",
        "OH": "Ohio",
        "OK": "Oklahoma",
        "OR": "Oregon",
        "PA": "Pennsylvania",
        "RI": "Rhode Island",
        "SC": "South Carolina",
        "SD": "South Dakota",
        "TN": "Tennessee",
        "TX": "Texas",
        "UT": "Utah",
        "VT": "Vermont",
        "VA": "Virginia",
        "WA": "Washington",
        "WV": "West Virginia",
        "WI": "Wisconsin",
        "WY": "Wyoming",
    },
    "CA": {
        "AB": "Alberta",
        "BC": "British Columbia",
        "MB": "Manitoba",
        "NB": "New Brunswick",
        "NL": "Newfoundland and Labrador",
        "NS": "Nova Scotia",
        "NT": "Northwest Territories",
        "NU": "Nunavut",
        "ON": "Ontario",
        "PE": "Prince Edward Island",
        "QC": "Quebec",
        "SK": "Saskatchewan",
        "YT": "Yukon",
    },
}

TILES = {
    "US": """
        AK  .  .  .  .  .  .  .  .  . ME
         .  .  .  .  . WI  .  .  . VT NH
        WA ID MT ND MN IL MI  . NY MA  .
        OR NV WY SD IA IN OH PA NJ CT RI
        CA UT CO NE MO KY WV VA MD DE  .
         . AZ NM KS AR TN NC SC DC  .  .
         .  .  . OK LA MS AL GA  .  .  .
        HI  .  . TX  .  .  .  . FL  .  .
    """,
    "CA": """
        YT NT NU  .  .  . NL  .
        BC AB SK MB ON QC NB PE
         .  .  .  .  .  .  . NS
    """,
}


@dataclass(frozen=True, slots=True)
class AreaCode:
    code: str
    country: str
    region: str
    region_name: str
    city: str
    time_zone: str


@cache
def area_codes() -> dict[str, AreaCode]:
    """All geographic area codes of the United States and Canada, by code."""
    with AREA_CODES_CSV.open(encoding="utf-8", newline="") as file:
        return {
            row["code"]: AreaCode(region_name=REGIONS[row["country"]][row["region"]], **row)
            for row in csv.DictReader(file)
        }


def lookup(e164: str) -> AreaCode | None:
    """The area code of a +1 number; None for toll-free numbers, short codes and other countries."""
    if len(e164) != len("+12125550100") or not e164.startswith("+1"):
        return None
    return area_codes().get(e164[2:5])


@cache
def regions(country: str) -> list[tuple[str, str]]:
    """States or provinces of a country as (code, name), by name."""
    return sorted(REGIONS.get(country, {}).items(), key=lambda item: item[1])


@cache
def cities(country: str, region: str) -> list[str]:
    """Cities that area codes of a region are named after, by name."""
    return sorted(
        {
            place.city
            for place in area_codes().values()
            if (place.country, place.region) == (country, region)
        }
    )


@cache
def tile_grid() -> dict[str, dict[str, tuple[int, int]]]:
    """Country → region → (column, row), counted from 0: a map with one square per state or province."""
    return {country: _tiles(drawing) for country, drawing in TILES.items()}


def _tiles(drawing: str) -> dict[str, tuple[int, int]]:
    return {
        region: (column, row)
        for row, line in enumerate(drawing.split("\n")[1:-1])
        for column, region in enumerate(line.split())
        if region != "."
    }
