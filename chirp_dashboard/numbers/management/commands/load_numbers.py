"""Make a catalogue and an organization of any size, for benchmarks, pattern tests and screenshots.

COUNT numbers are put up for sale and as many belong to the organization, all of them in stock: spread
over every area code, the toll-free codes and all exchanges but N11 and 555, with some six-digit short
codes. The same command makes the same numbers unless some are taken.

What is owned is owned as if purchased from stock in the course of the running billing period: a
rental, purchase fee and first-period charge for each number, one balanced entry per day, activity,
labels, forty applications, and assignments for a third of the numbers, some to two applications.
There are no orders: nobody placed any. The prices are the price list's; for what it lacks the
organization gets prices of its own.

Where the load is larger than the stock there is, indexes are built afterwards (`without_indexes`):
the dashboard waits meanwhile, and the database role has to own the tables.
"""

import secrets
import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from datetime import time as wall_time
from functools import cache

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from django.utils import timezone
from psycopg.types.json import Jsonb

from chirp_dashboard.billing.models import Entry, NumberType, Price, Standing
from chirp_dashboard.billing.models.books import Account
from chirp_dashboard.billing.models.starting import RentalTerms
from chirp_dashboard.billing.periods import last_billing_date
from chirp_dashboard.numbers.area_codes import TOLL_FREE, area_codes
from chirp_dashboard.numbers.bulk import without_indexes
from chirp_dashboard.numbers.models import Totals
from chirp_dashboard.organizations.models import (
    Actor,
    Application,
    Membership,
    Organization,
    User,
    validate_slug,
)
from chirp_dashboard.organizations.permissions import Role
from chirp_dashboard.organizations.public_ids import ALPHABET, EPOCH, LENGTH

TABLES = [
    "numbers_inventorynumber",
    "numbers_phonenumber",
    "numbers_assignment",
    "billing_rental",
    "billing_charge",
    "organizations_activity",
]
EXCHANGES = [x for x in range(200, 1000) if x % 100 != 11 and x != 555]
TEAMS = ("Alerts", "Billing", "Logistics", "Marketing", "Orders", "Sales", "Security", "Support")
PLACES = ("Canada", "East", "North", "South", "West")
CHARGED = "Purchased from stock"
KSUID_RANDOM = 21
"""Base62 characters at the end of a KSUID that hold fewer than its sixteen random bytes."""

LABELS = ["Main line", "Support", "Sales", "Orders", "Returns", "Campaign", "Sign-in codes"]

# Fee, rental and months, in the minor unit, where the price list says nothing.
PRICES = {
    NumberType.LOCAL: (100, 100, 1),
    NumberType.TOLL_FREE: (200, 200, 1),
    NumberType.SHORT_CODE: (50_000, 150_000, 3),
}

# What is picked: half of it (`owned`) for the organization, numbered from 0 by `n`.
PICKED = """
CREATE TEMPORARY TABLE picked (
    n bigint, owned boolean, country text, number text COLLATE "C", number_type text,
    region text, city text, area_code text, capabilities text[]
) ON COMMIT DROP
"""

# Candidate k is in place k % places. The rest of k, times a number prime to the count of spots (an
# exchange and four digits), scatters over all spots without ever repeating one. 983 has no 6XX.
PICK_LONG = """
INSERT INTO picked
SELECT n, n < %(each)s, country, number, number_type, region, city, area_code,
    CASE
        WHEN number_type = 'tollfree' AND spot %% 4 > 0 THEN '{SMS,Voice}'::text[]
        WHEN number_type = 'local' AND spot %% 25 = 3 THEN '{Voice}'
        WHEN number_type = 'local' AND spot %% 10 = 7 THEN '{SMS,Voice}'
        ELSE '{SMS,MMS,Voice}'
    END
FROM (
    SELECT row_number() OVER () - 1 AS n, candidates.* FROM (
        SELECT places.*, spot,
            '+1' || area_code || exchange || lpad((spot %% 10000)::text, 4, '0') AS number
        FROM (SELECT generate_series(%(begin)s::bigint, %(end)s) AS k) AS series
        JOIN places ON place = k %% %(places)s,
        LATERAL (
            SELECT (k / %(places)s * 4999999 + place * 104729) %% %(spots)s AS spot
        ) AS spots,
        LATERAL (SELECT (%(exchanges)s::int[])[spot / 10000 + 1] AS exchange) AS exchanges
        WHERE area_code <> '983' OR exchange NOT BETWEEN 600 AND 699
    ) AS candidates
    WHERE NOT EXISTS (
        SELECT FROM numbers_inventorynumber AS known
        WHERE known.country = candidates.country AND known.number = candidates.number
    )
    AND NOT EXISTS (
        SELECT FROM numbers_phonenumber AS known
        WHERE known.country = candidates.country AND known.number = candidates.number
    )
    LIMIT %(each)s * 2
) AS chosen
"""
PICK_SHORT = """
INSERT INTO picked
SELECT %(first)s + n, n < %(each)s, 'US', number, 'shortcode', '', '', '', '{SMS,MMS}'
FROM (
    SELECT row_number() OVER () - 1 AS n, number
    FROM (
        SELECT (k * 7919 %% 800000 + 200000)::text AS number FROM generate_series(0::bigint, 799999) AS k
    ) AS candidates
    WHERE NOT EXISTS (
        SELECT FROM numbers_inventorynumber AS known
        WHERE known.country = 'US' AND known.number = candidates.number
    )
    AND NOT EXISTS (
        SELECT FROM numbers_phonenumber AS known
        WHERE known.country = 'US' AND known.number = candidates.number
    )
    LIMIT %(each)s * 2
) AS chosen
"""
STOCK = """
INSERT INTO numbers_inventorynumber
    (country, number, number_type, region, city, area_code, capabilities, status)
SELECT country, number, number_type, region, city, area_code, capabilities,
    CASE WHEN owned THEN 'sold' ELSE 'for_sale' END
FROM picked
"""

# What is owned, with ids already given, so that everything that follows needs no look-up.
OWNED = """
CREATE TEMPORARY TABLE owned ON COMMIT DROP AS
SELECT %(first_number)s + n AS id, %(first_rental)s + n AS rental_id,
    'ph_' || %(ksuid)s || left(md5(%(secret)s || n), %(random)s) AS public_id,
    country, number, number_type, region, city, area_code, capabilities,
    CASE WHEN n %% 5 > 0 THEN (%(labels)s::text[])[n %% %(label_count)s + 1] || ' ' || n / 100
        ELSE '' END AS label,
    CASE WHEN n %% 3 = 0 THEN (%(applications)s::bigint[])[n / 3 %% %(application_count)s + 1]
        END AS application_id,
    CASE WHEN n %% 15 = 0 AND %(application_count)s > 1
        THEN (%(applications)s::bigint[])[(n / 3 + 1) %% %(application_count)s + 1]
        END AS second_application_id,
    begins + length * (n * %(days)s %% %(count)s / %(count)s::double precision) AS purchased_at,
    terms.day, starts_on, first_end, first_amount, anchor, fee, amount, months
FROM picked
JOIN terms USING (country, number_type)
WHERE owned AND terms.day = n * %(days)s / %(count)s
"""
NUMBERS = """
INSERT INTO numbers_phonenumber
    (id, public_id, organization_id, country, number, number_type, region, city, area_code,
     capabilities, carrier, label, state, is_test, release_locked, no_fee_reason, rental_amount,
     interval_months, currency, assignment_count, purchased_at)
SELECT id, public_id, %(organization)s, country, number, number_type, region, city, area_code,
    capabilities, 'stock', label, 'active', false, false, '', amount,
    months, %(currency)s, num_nonnulls(application_id, second_application_id), purchased_at
FROM owned
"""
RENTALS = """
INSERT INTO billing_rental
    (id, organization_id, phone_number_id, amount, currency, interval_months, anchor, starts_on,
     created_at)
SELECT rental_id, %(organization)s, id, amount, %(currency)s, months, anchor, starts_on, purchased_at
FROM owned
"""
DAYS = """
SELECT day, min(purchased_at), sum(fee)::bigint, sum(first_amount)::bigint FROM owned
GROUP BY day ORDER BY day
"""
CHARGES = """
INSERT INTO billing_charge
    (organization_id, entry_id, kind, rental_id, phone_number_id, "on", period_start, period_end,
     amount, currency, description, created_at)
SELECT %(organization)s, (%(entries)s::jsonb -> day::text)::bigint, kind, charge.rental, id, starts_on,
    charge.starts, charge.ends, charge.amount, %(currency)s, %(description)s, purchased_at
FROM owned, LATERAL (
    VALUES ('purchase_fee', NULL, NULL, NULL, fee),
        ('rental', rental_id, starts_on, first_end, first_amount)
) AS charge (kind, rental, starts, ends, amount)
"""
ASSIGNMENTS = """
INSERT INTO numbers_assignment
    (organization_id, phone_number_id, application_id, number, assigned_at, ended_because)
SELECT %(organization)s, id, application, number, purchased_at, ''
FROM owned, unnest(ARRAY[application_id, second_application_id]) AS application
WHERE application IS NOT NULL
"""
ACTIVITY = """
INSERT INTO organizations_activity
    (organization_id, at, verb, subject, subject_name, actor_kind, actor_name, before, after)
SELECT %(organization)s, purchased_at, verb, public_id, number, 'system', 'load_numbers', '{}', after
FROM owned, LATERAL (
    SELECT 'purchased' AS verb, '{}'::jsonb AS after
    UNION ALL
    SELECT 'assigned', jsonb_build_object('application', name)
    FROM organizations_application
    WHERE id IN (application_id, second_application_id)
) AS changes
"""


class Command(BaseCommand):
    help = (
        "Make a catalogue of COUNT numbers for sale and an organization that owns as many more: for "
        "benchmarks and screenshots, never for production."
    )

    def add_arguments(self, parser):
        parser.add_argument("--count", type=int, required=True)
        parser.add_argument(
            "--organization", metavar="SLUG", default="bench", help="made if it does not exist"
        )
        parser.add_argument("--owner", metavar="EMAIL", help="a person who becomes its owner")

    def handle(self, *, count, organization, owner, **options):
        if count < 1:
            raise CommandError("COUNT has to be at least 1.")
        started = self.lapped = time.monotonic()
        with transaction.atomic(), connection.cursor() as self.cursor:
            self.require_ownership()
            self.count, self.at = count, timezone.now()
            self.organization = find_organization(organization)
            self.today = self.organization.local_date(self.at)
            if owner:
                make_owner(owner, self.organization)
            self.pick()
            with without_indexes(self.cursor, TABLES) if self.is_large() else nullcontext():
                self.cursor.execute(STOCK)
                self.lap("put into stock")
                self.own()
                self.charge()
                self.assign()
            self.lap("indexed, foreign keys checked")
            self.cursor.execute(f"ANALYZE {', '.join(TABLES)}, billing_entry, billing_posting")
            self.cursor.execute("DROP TABLE places, picked, terms, owned")
            self.lap("statistics gathered")
        self.stdout.write(
            f"{count:,} numbers for sale and {count:,} owned by {self.organization.slug} "
            f"in {time.monotonic() - started:.1f} s"
        )

    def lap(self, done):
        now = time.monotonic()
        self.stdout.write(f"{now - self.lapped:6.1f} s  {done}")
        self.lapped = now

    def require_ownership(self):
        self.cursor.execute(
            "SELECT bool_and(pg_has_role(tableowner, 'MEMBER')) FROM pg_tables"
            " WHERE schemaname = current_schema() AND tablename = ANY (%s)",
            [TABLES],
        )
        if not self.cursor.fetchone()[0]:
            raise CommandError("The database role of DATABASE_URL has to own the tables.")

    def is_large(self):
        """Whether building the indexes anew is cheaper than keeping them."""
        self.cursor.execute(
            "SELECT count(*) FROM (SELECT FROM numbers_inventorynumber LIMIT %s) AS stock",
            [self.count],
        )
        return self.cursor.fetchone()[0] < self.count

    def pick(self):
        """Choose twice COUNT numbers that are not in stock."""
        short = min(self.count // 250, 2000)
        self.cursor.execute(
            "CREATE TEMPORARY TABLE places (place int, country text, number_type text, region text,"
            " city text, area_code text) ON COMMIT DROP"
        )
        with self.cursor.copy("COPY places FROM STDIN") as copy:
            for place in enumerate(places()):
                copy.write_row((place[0], *place[1]))
        self.cursor.execute("ANALYZE places")
        self.cursor.execute(PICKED)
        self.cursor.execute("SELECT count(*) FROM numbers_inventorynumber")
        spots = len(EXCHANGES) * 10_000
        picks = {
            "begin": self.cursor.fetchone()[0],
            "end": len(places()) * spots - 1,
            "places": len(places()),
            "exchanges": EXCHANGES,
            "spots": spots,
        }
        self.cursor.execute(PICK_LONG, picks | {"each": self.count - short})
        self.cursor.execute(PICK_SHORT, {"each": short, "first": self.count - short})
        self.cursor.execute("SELECT count(*) FROM picked")
        if self.cursor.fetchone()[0] < 2 * self.count:
            raise CommandError("There are not enough numbers left that are not in stock.")
        self.cursor.execute("ANALYZE picked")
        self.lap("numbers picked")

    def own(self):
        """Give half of them to the organization, each with its rental."""
        days = self.make_terms()
        applications = self.applications()
        self.cursor.execute(
            OWNED,
            {
                "first_number": self.reserve("numbers_phonenumber"),
                "first_rental": self.reserve("billing_rental"),
                "ksuid": ksuid_beginning(self.at),
                "random": KSUID_RANDOM,
                "secret": secrets.token_hex(),
                "labels": LABELS,
                "label_count": len(LABELS),
                "applications": applications,
                "application_count": len(applications),
                "days": days,
                "count": self.count,
            },
        )
        self.cursor.execute("ANALYZE owned")
        self.cursor.execute(NUMBERS, self.whose)
        self.lap("numbers owned")
        self.cursor.execute(RENTALS, self.whose)
        self.lap("rentals started")
        self.cursor.execute(
            "SELECT coalesce(sum(amount) FILTER (WHERE months = 1), 0)::bigint FROM owned"
        )
        Totals.objects.update_or_create(
            organization=self.organization,
            defaults={"numbers": self.count, "monthly": self.cursor.fetchone()[0]},
        )

    def charge(self):
        """Charge purchase fee and first period of each number, with one entry for each day."""
        standing = Standing.lock(self.organization)
        entries = {}
        self.cursor.execute(DAYS)
        for day, at, fees, rent in self.cursor.fetchall():
            amounts = {
                Account.RECEIVABLE: fees + rent,
                Account.PURCHASE_FEES: -fees,
                Account.RENTALS: -rent,
            }
            entry = Entry.objects.write(
                self.organization,
                Entry.Kind.PURCHASE,
                amounts=amounts,
                at=at,
                description=CHARGED,
            )
            entries[day] = entry.pk
            standing.add(fees + rent)
        self.cursor.execute(
            CHARGES, self.whose | {"entries": Jsonb(entries), "description": CHARGED}
        )
        self.lap("charges written")

    def assign(self):
        """Assign a third of the numbers, and note for all of them what happened."""
        self.cursor.execute(ASSIGNMENTS, self.whose)
        self.lap("numbers assigned")
        self.cursor.execute(ACTIVITY, self.whose)
        self.lap("activity noted")

    @property
    def whose(self):
        return {"organization": self.organization.pk, "currency": self.organization.currency}

    def make_terms(self):
        """A table of what a number of each kind costs from each day; answer how many days there are."""
        begin = last_billing_date(self.organization.billing_day, on=self.today)
        days = [begin + timedelta(days=n) for n in range((self.today - begin).days + 1)]
        prices = self.prices(begin)
        self.cursor.execute(
            "CREATE TEMPORARY TABLE terms (day int, begins timestamptz, length interval,"
            " starts_on date, country text, number_type text, fee bigint, amount bigint,"
            " months int, anchor date, first_end date, first_amount bigint) ON COMMIT DROP"
        )
        with self.cursor.copy("COPY terms FROM STDIN") as copy:
            for day, on in enumerate(days):
                for (country, number_type), price in prices.items():
                    copy.write_row(
                        (day, *self.span(on), on, country, number_type, *self.terms(price, on))
                    )
        return len(days)

    def span(self, on):
        """When the local day begins, and how long it is or has been."""
        begins = datetime.combine(on, wall_time(), self.organization.zone)
        ends = datetime.combine(on + timedelta(days=1), wall_time(), self.organization.zone)
        return begins, min(ends.astimezone(UTC), self.at) - begins.astimezone(UTC)

    def terms(self, price, on):
        terms = RentalTerms.from_purchase(
            0,
            fee=price.purchase_fee,
            amount=price.rental,
            interval_months=price.interval_months,
            billing_day=self.organization.billing_day,
            on=on,
        )
        return (
            terms.fee,
            terms.amount,
            terms.interval_months,
            terms.anchor,
            terms.first_end,
            terms.first_amount,
        )

    def prices(self, begin):
        """The price list for everything picked, with prices of its own where it has none."""
        prices = Price.objects.in_force(self.organization, on=self.today)
        self.cursor.execute("SELECT DISTINCT country, number_type FROM picked WHERE owned")
        for country, number_type in set(self.cursor.fetchall()) - prices.keys():
            fee, rental, months = PRICES[number_type]
            prices[country, number_type] = Price.objects.create(
                organization=self.organization,
                country=country,
                number_type=number_type,
                currency=self.organization.currency,
                purchase_fee=fee,
                rental=rental,
                interval_months=months,
                valid_from=begin,
            )
        return prices

    def applications(self):
        """The ids of the organization's live applications; forty new ones where it has none."""
        live = self.organization.applications.open().filter(kind=Application.Kind.LIVE)
        if not live.exists():
            for name in (f"{team} {place}" for team in TEAMS for place in PLACES):
                Application.objects.add(
                    self.organization,
                    name=name,
                    slug=name.lower().replace(" ", "-"),
                    kind=Application.Kind.LIVE,
                    by=Actor.system("load_numbers"),
                    at=self.at,
                )
        return list(live.values_list("pk", flat=True))

    def reserve(self, table):
        """The first of as many ids of `table` as there will be rows; nobody else gets them."""
        self.cursor.execute(
            "SELECT nextval(sequence), setval(sequence, currval(sequence) + %s - 1)"
            " FROM pg_get_serial_sequence(%s, 'id') AS sequence",
            [self.count, table],
        )
        return self.cursor.fetchone()[0]


@cache
def places():
    """(country, type, region, city, area code) of everything that has long numbers."""
    local = [
        (place.country, "local", place.region, place.city, place.code)
        for place in area_codes().values()
    ]
    return [*local, *(("US", "tollfree", "", "", code) for code in TOLL_FREE)]


def find_organization(slug):
    try:
        validate_slug(slug)
    except ValidationError as error:
        raise CommandError(f"{slug}: {error.message}") from None
    organization, _ = Organization.objects.get_or_create(
        slug=slug, defaults={"name": slug.replace("-", " ").capitalize()}
    )
    if organization.phone_numbers.exists():
        raise CommandError(f"{slug} has numbers already; name another organization.")
    return organization


def make_owner(email, organization):
    person = User.objects.filter(email__iexact=email).first()
    if person is None:
        raise CommandError(f"There is nobody with the e-mail address {email}.")
    Membership.objects.get_or_create(
        organization=organization, user=person, defaults={"role": Role.OWNER}
    )


def ksuid_beginning(at):
    """The characters that say of every KSUID that it was made at `at`; any others may follow."""
    number = ((int(at.timestamp()) - EPOCH) << 128) // 62**KSUID_RANDOM + 1
    characters = []
    while number:
        number, digit = divmod(number, 62)
        characters.append(ALPHABET[digit])
    return "".join(reversed(characters)).rjust(LENGTH - KSUID_RANDOM, ALPHABET[0])
