"""Make ``numbers/data/area_codes.csv`` from the data that comes with the `phonenumbers` package.

Run it by hand after a new release of `phonenumbers`, and look at the difference before committing.
It is the only code that imports the package's geocoder and time zone data (about 99 MB in memory):
they are needed when the table is made, never when the dashboard runs.

Which codes exist comes from the package's numbering plan. City, region and time zone come from its
table of exchanges: the city with most exchanges of a code gives all three. `OVERLAYS`, `CITIES` and
`TIME_ZONES` say what that table cannot.
"""

import csv
import io
import re
from collections import Counter

from django.core.management.base import BaseCommand, CommandError

from chirp_dashboard.numbers.area_codes import AREA_CODES_CSV, REGIONS

FIELDS = ("code", "country", "region", "city", "time_zone")
CITY_AND_REGION = re.compile(r"(.+), ([A-Z]{2})")

# Codes laid over the area of another one, by that one. Their few or unnamed exchanges say nothing
# about the place, so they take everything from the code they were laid over.
OVERLAYS = {
    "201": "551",
    "202": "771",
    "203": "475",
    "204": "431 584",
    "205": "659",
    "208": "986",
    "209": "350",
    "210": "726",
    "212": "332 646 917",
    "213": "323 738",
    "214": "469 945 972",
    "215": "267 445",
    "217": "447",
    "248": "947",
    "256": "938",
    "270": "364",
    "301": "227 240",
    "303": "720 983",
    "304": "681",
    "305": "645 786",
    "306": "474 639",
    "310": "424",
    "312": "872",
    "314": "557",
    "315": "680",
    "317": "463",
    "330": "234",
    "336": "743",
    "360": "564",
    "402": "531",
    "403": "368 587 825",
    "404": "470 678 943",
    "405": "572",
    "407": "689",
    "408": "669",
    "410": "443 667",
    "412": "878",
    "415": "628",
    "416": "437 647 942",
    "418": "273 367 581",
    "419": "567",
    "450": "354 579",
    "503": "971",
    "506": "428",
    "508": "774",
    "510": "341",
    "512": "737",
    "513": "283",
    "514": "263 438",
    "516": "363",
    "518": "838",
    "519": "226 382 548",
    "540": "826",
    "541": "458",
    "561": "728",
    "570": "272",
    "573": "235",
    "601": "769",
    "604": "236 257 672 778",
    "608": "353",
    "609": "640",
    "610": "484 835",
    "613": "343 753",
    "614": "380",
    "615": "629",
    "617": "857",
    "618": "730",
    "630": "331",
    "631": "934",
    "702": "725",
    "703": "571",
    "704": "980",
    "705": "249 683",
    "706": "762",
    "707": "369",
    "708": "464",
    "709": "879",
    "713": "281 346 832",
    "714": "657",
    "715": "534",
    "717": "223",
    "718": "347 929",
    "732": "848",
    "740": "220",
    "757": "948",
    "760": "442",
    "781": "339",
    "801": "385",
    "803": "839",
    "804": "686",
    "805": "820",
    "812": "930",
    "813": "656",
    "814": "582",
    "815": "779",
    "816": "975",
    "817": "682",
    "818": "747",
    "819": "468 873",
    "843": "854",
    "845": "329",
    "847": "224",
    "850": "448",
    "860": "959",
    "864": "821",
    "870": "327",
    "902": "782",
    "903": "430",
    "904": "324",
    "905": "289 365 742",
    "909": "840",
    "910": "472",
    "916": "279",
    "918": "539",
    "919": "984",
    "920": "274",
    "937": "326",
    "954": "754",
    "970": "748",
    "973": "862",
    "978": "351",
}

# Where the table names no city, or two as often and the smaller one first.
CITIES = {
    "202": ("Washington", "DC"),
    "516": ("Hempstead", "NY"),
    "802": ("Burlington", "VT"),
    "914": ("Yonkers", "NY"),
}

# Where the table gives several zones, or a neighbour with the same offset.
TIME_ZONES = {
    "208": "America/Boise",
    "709": "America/St_Johns",
    "867": "America/Whitehorse",
    "907": "America/Anchorage",
}


class Command(BaseCommand):
    help = "Make the table of area codes again from the data of the phonenumbers package."
    requires_system_checks = ()

    def add_arguments(self, parser):
        parser.add_argument(
            "--check",
            action="store_true",
            help="change nothing; fail if the table would be different",
        )

    def handle(self, *, check, **options):
        table = _csv(_rows())
        if not check:
            AREA_CODES_CSV.write_text(table, encoding="utf-8", newline="")
        elif AREA_CODES_CSV.read_text(encoding="utf-8") != table:
            raise CommandError("The table of area codes is out of date: run generate_area_codes.")
        self.stdout.write(f"{table.count(chr(10)) - 1} area codes")


def _csv(rows):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    writer.writerows(rows)
    return text.getvalue()


def _rows():
    exchanges = _exchanges()
    base_of = {code: base for base, codes in OVERLAYS.items() for code in codes.split()}
    for code, country in sorted(_geographic_codes().items()):
        city, region, time_zone = _place(base_of.get(code, code), exchanges)
        if region not in REGIONS[country]:
            raise CommandError(f"{code} is in {country}, but its city is {city}, {region}.")
        yield code, country, region, city, time_zone


def _geographic_codes():
    """Every code in which an ordinary number of the United States or Canada can begin, with its country."""
    from phonenumbers import PhoneMetadata

    codes = {}
    for country in REGIONS:
        plan = re.compile(
            PhoneMetadata.metadata_for_region(country).fixed_line.national_number_pattern
        )
        codes |= {
            code: country for code in map(str, range(200, 1000)) if plan.fullmatch(f"{code}5550100")
        }
    return codes


def _exchanges():
    """Code → (city, region) → the prefixes listed for it. A prefix is a whole code or a part of one."""
    from phonenumbers.geodata import GEOCODE_DATA

    exchanges = {}
    for prefix, names in GEOCODE_DATA.items():
        place = CITY_AND_REGION.fullmatch(names.get("en", ""))
        if place and prefix.startswith("1"):
            exchanges.setdefault(prefix[1:4], {}).setdefault(place.groups(), []).append(prefix)
    return exchanges


def _place(code, exchanges):
    places = exchanges.get(code, {})
    if code not in CITIES and not places:
        raise CommandError(f"Nothing is known about {code}: say in OVERLAYS or CITIES where it is.")
    city, region = CITIES.get(code) or min(places, key=lambda place: (-_size(places[place]), place))
    return (
        city,
        region,
        TIME_ZONES.get(code) or _time_zone(code, places.get((city, region))),
    )


def _size(prefixes):
    """How many exchanges (1 and six digits) the prefixes cover."""
    return sum(10 ** (len("1NXXNXX") - len(prefix)) for prefix in prefixes)


def _time_zone(code, prefixes):
    """The zone of most of the prefixes, or of the whole code where none is listed."""
    zones = Counter(_zones(prefix) for prefix in prefixes or [f"1{code}"])
    most = min(zones, key=lambda zone: (-zones[zone], zone))
    if len(most) != 1:
        raise CommandError(f"{code} has the time zones {', '.join(most)}: say in TIME_ZONES which.")
    return most[0]


def _zones(prefix):
    from phonenumbers.tzdata import TIMEZONE_DATA

    while prefix not in TIMEZONE_DATA:
        prefix = prefix[:-1]
    return TIMEZONE_DATA[prefix]
