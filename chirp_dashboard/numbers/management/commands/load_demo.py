"""The demo: one organization with three months behind it, a rival, a price list and stock.

Everything with a history is done by the verbs of the dashboard at moments in the past, in their order
and with the billing runs between them, so the books are those of an organization that lived.
"""

import os
import secrets
from datetime import date, datetime, time, timedelta

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from chirp_dashboard.billing.models import Dunning, NumberType, Payment, Price, Rental
from chirp_dashboard.billing.periods import billing_dates
from chirp_dashboard.numbers.models import Hold, InventoryNumber, Order, PhoneNumber
from chirp_dashboard.numbers.models.quotes import Quote
from chirp_dashboard.numbers.models.releasing import NOW, PERIOD_END
from chirp_dashboard.numbers.stock import load_demo_stock
from chirp_dashboard.organizations.models import Application, Organization, User, WebhookEvent
from chirp_dashboard.organizations.permissions import Role

PEOPLE = {
    Role.OWNER: "Olivia Reyes",
    Role.ADMIN: "Adam Novak",
    Role.DEVELOPER: "Devi Sharma",
    Role.BILLING: "Bill Okafor",
    Role.VIEWER: "Vera Lindqvist",
}
PRICES = {  # purchase fee and monthly rental, in cents
    ("US", NumberType.LOCAL): (100, 100),
    ("US", NumberType.TOLL_FREE): (100, 200),
    ("US", NumberType.SHORT_CODE): (65_000, 50_000),
    ("CA", NumberType.LOCAL): (100, 100),
    ("CA", NumberType.TOLL_FREE): (100, 200),
}
TEST_NUMBERS = {"+15005550100": NumberType.LOCAL, "+18885550100": NumberType.TOLL_FREE}
CREDIT_LIMIT = 500_000
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
FIRST_DAY = 85  # days ago


class Command(BaseCommand):
    help = "Load the demo into an empty database (development only)."

    def add_arguments(self, parser):
        parser.add_argument(
            "--unpaid", action="store_true",
            help="also an organization whose rent is unpaid; may be added to a demo that is loaded",
        )  # fmt: skip

    def handle(self, *, unpaid=False, **options):
        if settings.PRODUCTION:
            raise CommandError("The demo has known people in it and is for development only.")
        self.load_demo()
        if unpaid:
            self.load_unpaid()

    def load_unpaid(self):
        if Organization.objects.filter(slug="late").exists():
            self.stdout.write("The organization whose rent is unpaid is there already.")
            return
        password = password_file().read_text().strip()
        with transaction.atomic():
            Unpaid(password=password, at=timezone.now()).load()
        Dunning.objects.walk(at=timezone.now())
        self.stdout.write("Rent is unpaid at owner@late.example; the password is the same.")

    def load_demo(self):
        if Organization.objects.filter(slug="demo").exists():
            self.stdout.write(f"The demo is loaded already; its password is in {password_file()}.")
            return
        if any(model.objects.exists() for model in (User, Organization, InventoryNumber, Price)):
            raise CommandError(
                "This database is not empty. The demo is loaded only into an empty one."
            )
        password = settings.DEMO_PASSWORD or made_up()
        with transaction.atomic():
            load_demo_stock()
            Demo(password=password, at=timezone.now()).load()
        keep(password)
        self.stdout.write(f"Loaded the demo; sign in as owner@demo.example with {password}")


def password_file():
    return settings.DATA_DIR / "demo_password"


def made_up():
    return "-".join("".join(secrets.choice(LETTERS) for _ in range(5)) for _ in range(3))


def keep(password):
    """Write the password where `manage.py dev` finds it, for this user alone."""
    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(password_file(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(password + "\n")


class Demo:
    """Needs its numbers in stock; everything else it brings along."""

    def __init__(self, *, password, at):
        self.password, self.now = password, at
        self.numbers = {}

    def load(self):
        Price.objects.bulk_create(
            Price(
                country=country, number_type=number_type, purchase_fee=fee, rental=rental,
                currency="USD", interval_months=1, valid_from=date(2020, 1, 1),
            )
            for (country, number_type), (fee, rental) in PRICES.items()
        )  # fmt: skip
        self.operator = User.objects.create_superuser(
            "operator@demo.example", self.password, name="Operator"
        )
        self.meet_rival()
        self.meet_demo()
        self.live()

    def ago(self, days):
        return self.now - timedelta(days=days)

    # Who ---------------------------------------------------------------------------------------

    def meet_demo(self):
        self.demo = self.organization("Demo", "demo")
        people = {role: self.person(self.demo, role, name) for role, name in PEOPLE.items()}
        self.owner, self.developer = people[Role.OWNER], people[Role.DEVELOPER]
        self.storefront = self.application(self.demo, self.owner, "Storefront")
        self.alerts = self.application(self.demo, self.owner, "Alerts")
        self.sandbox = self.application(
            self.demo, self.owner, "Sandbox", kind=Application.Kind.TEST
        )
        self.storefront.set_webhook(
            url="https://storefront.example.com/hooks/numbers",
            events=WebhookEvent.values,
            headers={"X-Token": secrets.token_urlsafe(12)},
            by=self.developer,
            at=self.ago(FIRST_DAY),
        )

    def meet_rival(self):
        self.rival = self.organization("Rival", "rival")
        owner = self.person(self.rival, Role.OWNER, "Ruth Rival")
        shop = self.application(self.rival, owner, "Rival shop")
        self.purchase(40, "+13055550150", by=owner, organization=self.rival, application=shop)

    def organization(self, name, slug):
        return Organization.objects.create(
            name=name, slug=slug, currency="USD", time_zone="America/New_York", billing_day=1,
            credit_limit=CREDIT_LIMIT, created_at=self.ago(FIRST_DAY),
        )  # fmt: skip

    def person(self, organization, role, name):
        email = f"{role.value}@{organization.slug}.example"
        user = User.objects.create_user(email, self.password, name=name)
        organization.admit(user, role.value, by=self.operator, at=self.ago(FIRST_DAY))
        return user

    def application(self, organization, owner, name, kind=Application.Kind.LIVE):
        slug = name.lower().replace(" ", "-")
        return Application.objects.add(
            organization, name=name, slug=slug, kind=kind, by=owner, at=self.ago(FIRST_DAY)
        )

    # What happened -----------------------------------------------------------------------------

    def live(self):
        """Three months, oldest first; `bill()` catches up with the billing dates between two steps."""
        self.billed_through = self.demo.local_date(self.ago(FIRST_DAY))
        for days, step in (
            (84, self.open_in_new_york),
            (63, self.add_support),
            (40, self.open_in_toronto),
            (30, self.try_out),
            (15, self.rearrange),
            (5, self.give_one_back),
            (1, self.buy_for_later),
            (0, self.plan_a_release),
        ):
            self.bill(until=self.ago(days))
            step(days)

    def open_in_new_york(self, days):
        self.purchase(days, *(f"+1212555018{n}" for n in range(1, 6)), application=self.storefront)
        self.label(days, "+12125550181", "Sales New York")
        self.label(days, "+12125550182", "Returns")
        self.label(days, "+12125550183", "Autumn campaign")

    def add_support(self, days):
        self.purchase(days, "+14155550131", "+14155550132", "+18005550150", application=self.alerts)
        self.label(days, "+18005550150", "Support")
        self.label(days, "+14155550131", "Outages, on call")
        support = self.numbers["+18005550150"]
        support.assign(self.storefront, by=self.developer, at=self.ago(days - 1))
        support.set_release_lock(True, by=self.owner, at=self.ago(days - 1))

    def open_in_toronto(self, days):
        self.purchase(
            days, "+14165550120", "+14165550121", country="CA", application=self.storefront
        )
        self.purchase(days, "+18335550160", application=self.storefront)
        self.label(days, "+14165550120", "Café Toronto")

    def try_out(self, days):
        for number, number_type in TEST_NUMBERS.items():
            self.numbers[number] = PhoneNumber.objects.add_test(
                self.sandbox, number, number_type=number_type, by=self.owner, at=self.ago(days)
            )
        self.label(days, "+18885550100", "Support, tried out")

    def rearrange(self, days):
        self.numbers["+14155550132"].move(
            self.alerts, self.storefront, by=self.developer, at=self.ago(days)
        )
        self.numbers["+12125550184"].remove(self.storefront, by=self.developer, at=self.ago(days))

    def give_one_back(self, days):
        self.numbers["+12125550183"].release(when=NOW, by=self.owner, at=self.ago(days))

    def buy_for_later(self, days):
        self.purchase(days, "+12065550177")

    def plan_a_release(self, days):
        self.numbers["+14165550121"].release(when=PERIOD_END, by=self.owner, at=self.ago(days))

    # Steps -------------------------------------------------------------------------------------

    def purchase(self, days, *wanted, country="US", by=None, organization=None, application=None):
        """Hold, quote and order, as a person does."""
        organization, by, at = organization or self.demo, by or self.owner, self.ago(days)
        keys = [(country, number) for number in wanted]
        held = Hold.objects.hold(organization, by, keys, at=at).held
        quote = Quote.of(organization, held, on=organization.local_date(at))
        Order.objects.place(
            organization, person=by, numbers=keys, expected_total=quote.total,
            idempotency_key=f"demo-{wanted[0]}", at=at, application=application,
        )  # fmt: skip
        bought = PhoneNumber.objects.filter(organization=organization, number__in=wanted)
        self.numbers |= {number.number: number for number in bought}

    def label(self, days, number, label):
        self.numbers[number].rename(label, by=self.developer, at=self.ago(days))

    def bill(self, *, until):
        """On the eve of each billing date reached by `until` the invoice before is paid, then comes the next."""
        today = self.demo.local_date(until)
        for due in billing_dates(self.demo.billing_day, after=self.billed_through, until=today):
            morning = datetime.combine(due, time(6), tzinfo=self.demo.zone)
            self.pay(at=morning - timedelta(days=1))
            Rental.objects.charge_due(on=due, at=min(morning, until))
        self.billed_through = today

    def pay(self, *, at):
        for invoice in self.demo.invoices.unpaid():
            Payment.objects.record_transfer(
                self.demo, amount=invoice.due, received_on=self.demo.local_date(at),
                reference=f"Transfer for invoice {invoice.number:06d}", by=self.operator, at=at,
            )  # fmt: skip


class Unpaid(Demo):
    """An organization beside a loaded demo that has paid nothing for three months."""

    def load(self):
        self.operator = User.objects.get(email="operator@demo.example")
        self.demo = self.organization("Late", "late")
        self.owner = self.person(self.demo, Role.OWNER, "Lara Late")
        shop = self.application(self.demo, self.owner, "Late shop")
        self.billed_through = self.demo.local_date(self.ago(FIRST_DAY))
        local = InventoryNumber.objects.filter(country="US", number_type=NumberType.LOCAL)
        free = local.for_sale(at=self.now).order_by("number")
        self.purchase(84, *free.values_list("number", flat=True)[:2], application=shop)
        self.bill(until=self.now)

    def pay(self, *, at):
        """Nothing."""
