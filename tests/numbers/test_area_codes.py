"""The area-code table against places anyone can look up."""

import subprocess
import sys
import zoneinfo
from collections import Counter
from pathlib import Path

import phonenumbers
import pytest

from chirp_dashboard.numbers.area_codes import (
    AREA_CODES_CSV,
    REGIONS,
    TOLL_FREE,
    AreaCode,
    area_codes,
    cities,
    lookup,
    regions,
    tile_grid,
)

ROOT = Path(__file__).resolve().parents[2]

KNOWN = """
    202 US DC Washington        America/New_York
    203 US CT Stamford          America/New_York
    204 CA MB Winnipeg          America/Winnipeg
    205 US AL Birmingham        America/Chicago
    206 US WA Seattle           America/Los_Angeles
    207 US ME Portland          America/New_York
    208 US ID Boise             America/Boise
    212 US NY New_York          America/New_York
    213 US CA Los_Angeles       America/Los_Angeles
    219 US IN Gary              America/Chicago
    270 US KY Bowling_Green     America/Chicago
    302 US DE Wilmington        America/New_York
    303 US CO Denver            America/Denver
    304 US WV Charleston        America/New_York
    305 US FL Miami             America/New_York
    306 CA SK Saskatoon         America/Regina
    307 US WY Cheyenne          America/Denver
    310 US CA Los_Angeles       America/Los_Angeles
    312 US IL Chicago           America/Chicago
    317 US IN Indianapolis      America/New_York
    401 US RI Providence        America/New_York
    402 US NE Omaha             America/Chicago
    403 CA AB Calgary           America/Edmonton
    404 US GA Atlanta           America/New_York
    405 US OK Oklahoma_City     America/Chicago
    406 US MT Billings          America/Denver
    415 US CA San_Francisco     America/Los_Angeles
    416 CA ON Toronto           America/Toronto
    423 US TN Chattanooga       America/New_York
    501 US AR Little_Rock       America/Chicago
    504 US LA New_Orleans       America/Chicago
    505 US NM Albuquerque       America/Denver
    506 CA NB Moncton           America/Halifax
    514 CA QC Montreal          America/Toronto
    587 CA AB Calgary           America/Edmonton
    601 US MS Jackson           America/Chicago
    602 US AZ Phoenix           America/Phoenix
    603 US NH Manchester        America/New_York
    604 CA BC Vancouver         America/Vancouver
    605 US SD Sioux_Falls       America/Chicago
    612 US MN Minneapolis       America/Chicago
    615 US TN Nashville         America/Chicago
    617 US MA Boston            America/New_York
    639 CA SK Saskatoon         America/Regina
    646 US NY New_York          America/New_York
    647 CA ON Toronto           America/Toronto
    701 US ND Fargo             America/Chicago
    702 US NV Las_Vegas         America/Los_Angeles
    709 CA NL St._John's        America/St_Johns
    713 US TX Houston           America/Chicago
    718 US NY Brooklyn          America/New_York
    775 US NV Reno              America/Los_Angeles
    782 CA NS Halifax           America/Halifax
    785 US KS Topeka            America/Chicago
    801 US UT Salt_Lake_City    America/Denver
    802 US VT Burlington        America/New_York
    808 US HI Honolulu          Pacific/Honolulu
    850 US FL Pensacola         America/Chicago
    867 CA YT Whitehorse        America/Whitehorse
    902 CA NS Halifax           America/Halifax
    907 US AK Anchorage         America/Anchorage
    915 US TX El_Paso           America/Denver
    934 US NY Deer_Park         America/New_York
    983 US CO Denver            America/Denver
"""

# Regions whose area codes are not all in one zone.
ZONES_APART = {"FL": 2, "IN": 2, "KY": 2, "TN": 2, "TX": 2}

NOT_GEOGRAPHIC = "200 211 311 411 456 500 521 533 544 555 566 577 588 600 622 633 700 710 800 822 888 900 911 950 976"
OTHER_COUNTRIES = {
    "787": "PR",
    "939": "PR",
    "340": "VI",
    "671": "GU",
    "684": "AS",
    "670": "MP",
    "876": "JM",
}


@pytest.mark.parametrize("line", KNOWN.strip().splitlines(), ids=lambda line: line.split()[0])
def test_well_known_code_is_where_everyone_knows_it_to_be(line):
    code, country, region, city, time_zone = line.split()
    assert lookup(f"+1{code}5550100") == AreaCode(
        code=code,
        country=country,
        region=region,
        region_name=REGIONS[country][region],
        city=city.replace("_", " "),
        time_zone=time_zone,
    )


def test_table_holds_every_geographic_code_of_both_countries_and_nothing_else():
    ordinary = {
        phonenumbers.PhoneNumberType.FIXED_LINE,
        phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE,
    }
    geographic = {}
    for code in map(str, range(200, 1000)):
        number = phonenumbers.parse(f"+1{code}5550100")
        country = phonenumbers.region_code_for_number(number)
        if country in REGIONS and phonenumbers.number_type(number) in ordinary:
            geographic[code] = country
    assert {code: place.country for code, place in area_codes().items()} == geographic
    assert Counter(geographic.values()) == {"US": 359, "CA": 56}


@pytest.mark.parametrize("code", NOT_GEOGRAPHIC.split())
def test_code_that_belongs_to_no_place_is_not_in_the_table(code):
    assert lookup(f"+1{code}5550100") is None


@pytest.mark.parametrize("code", OTHER_COUNTRIES)
def test_code_of_another_country_is_not_in_the_table(code):
    assert lookup(f"+1{code}5550100") is None


@pytest.mark.parametrize("code", TOLL_FREE)
def test_toll_free_code_has_no_place(code):
    assert lookup(f"+1{code}5550100") is None


@pytest.mark.parametrize("number", ["", "212", "72727", "+442125550100", "2125550100", "+1212555"])
def test_what_is_no_north_american_number_has_no_area_code(number):
    assert lookup(number) is None


def test_every_place_has_a_region_a_city_and_a_time_zone():
    known_zones = zoneinfo.available_timezones()
    for place in area_codes().values():
        assert place.region_name == REGIONS[place.country][place.region]
        assert place.city.strip() == place.city != ""
        assert place.time_zone in known_zones


def test_codes_of_a_region_share_its_time_zone():
    zones = {}
    for place in area_codes().values():
        zones.setdefault(place.region, set()).add(place.time_zone)
    assert {region: len(found) for region, found in zones.items() if len(found) > 1} == ZONES_APART


def test_only_regions_that_share_their_code_with_a_larger_one_have_none():
    covered = {(place.country, place.region) for place in area_codes().values()}
    missing = {(country, code) for country in REGIONS for code, _ in regions(country)} - covered
    assert missing == {("CA", "NT"), ("CA", "NU"), ("CA", "PE")}


def test_regions_come_by_name():
    assert regions("US")[:3] == [("AL", "Alabama"), ("AK", "Alaska"), ("AZ", "Arizona")]
    assert len(regions("US")) == 51
    assert [name for _, name in regions("CA")] == sorted(REGIONS["CA"].values())
    assert regions("XX") == []


def test_cities_of_a_region_come_once_each_and_by_name():
    assert cities("CA", "AB") == ["Calgary", "Edmonton"]
    assert cities("US", "NV") == ["Las Vegas", "Reno"]
    assert cities("US", "AB") == []


@pytest.mark.parametrize("country", REGIONS)
def test_every_region_has_a_square_of_its_own_on_the_map(country):
    squares = tile_grid()[country]
    assert set(squares) == set(REGIONS[country])
    assert len(set(squares.values())) == len(squares)


def test_map_looks_like_the_country():
    us, ca = tile_grid()["US"], tile_grid()["CA"]
    assert us["AK"] == (0, 0)
    assert us["WA"] < us["MT"] < us["MA"], "west is left of east"
    assert us["CA"][1] > us["OR"][1] > us["WA"][1], "north is above south"
    assert us["TX"][1] == max(row for _, row in us.values())
    assert [region for region, (_, row) in ca.items() if row == 0] == ["YT", "NT", "NU", "NL"]


def test_table_is_small():
    assert AREA_CODES_CSV.stat().st_size < 60_000


def test_table_is_what_the_package_of_today_gives():
    check = [sys.executable, "manage.py", "generate_area_codes", "--check"]
    done = subprocess.run(check, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_looking_up_never_loads_the_geocoder():
    program = (
        "import sys; from chirp_dashboard.numbers.area_codes import lookup; lookup('+12125550100');"
        "sys.exit(any(name.startswith('phonenumbers') for name in sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False
        ).returncode
        == 0
    )
