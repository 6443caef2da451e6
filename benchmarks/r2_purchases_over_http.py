"""R2: purchases per second over HTTP, eight clients at once ÷ empty signed-in POSTs on the same server."""

from itertools import count

from benchmarks.measure import interleave
from benchmarks.serving import Client, serving, side_by_side

CLIENTS = 8
SLICE = 40  # purchases of each client in a slice


def run(rounds=8):
    from django.utils import timezone

    from chirp_dashboard.numbers.books import check_books
    from chirp_dashboard.numbers.models import PhoneNumber

    with serving() as port:
        shops = [Shop(port, n, numbers=SLICE * (rounds + 1)) for n in range(CLIENTS)]
        ratio = interleave(
            "R2 seconds per purchase ÷ per empty POST, 8 clients",
            "≤ 2.5, which is purchases per second ≥ 0.4 of empty POSTs",
            lambda: side_by_side([shop.purchases for shop in shops]) / (SLICE * CLIENTS),
            lambda: side_by_side([shop.nothings for shop in shops]) / (SLICE * CLIENTS),
            rounds=rounds,
        )
    bought = sum(
        PhoneNumber.objects.filter(organization=shop.organization).count() for shop in shops
    )
    if bought != sum(shop.confirmed for shop in shops) or check_books(at=timezone.now()):
        raise RuntimeError("Not exactly once.")
    fastest = 1 / min(ratio.ours)
    median = 1 / sorted(ratio.ours)[len(ratio.ours) // 2]
    print(
        f"R2 in purchases per second: {median:.0f} (best slice {fastest:.0f}), target ≥ 100; "
        f"{1 / ratio.median:.2f} of empty POSTs; {bought} purchases, each exactly once"
    )
    return [ratio]


class Shop:
    """An organization with its owner signed in and numbers held to be purchased."""

    def __init__(self, port, position, *, numbers):
        from django.utils import timezone

        from benchmarks.r1_purchase_transaction import held_numbers
        from chirp_dashboard.organizations.models import Membership, Organization, User

        slug = f"shop-{position}-{timezone.now():%H%M%S%f}"
        self.organization = Organization.objects.create(name=slug, slug=slug)
        person = User.objects.create_user(f"{slug}@bench.example")
        Membership.objects.create(organization=self.organization, user=person, role="owner")
        self.rows = held_numbers(self.organization, person, numbers, at=timezone.now())
        self.total = self._quoted()
        self.client = Client(port, person)
        self.next = count()
        self.confirmed = 0

    def _quoted(self):
        from django.utils import timezone

        from chirp_dashboard.numbers.carriers import StockCarrier
        from chirp_dashboard.numbers.models.quotes import Quote

        on = self.organization.local_date(timezone.now())
        offers = StockCarrier().priced(self.organization, self.rows[:1], on=on)
        return Quote.of(self.organization, offers, on=on).total

    def purchases(self):
        path = f"/o/{self.organization.slug}/numbers/purchase/quote/"
        for _ in range(SLICE):
            row = self.rows[next(self.next)]
            status, _ = self.client.post(
                path,
                [
                    ("number", f"US:{row.number}"),
                    ("expected_total", self.total),
                    ("idempotency_key", row.number),
                ],
            )
            if status != 302:
                raise RuntimeError(f"A purchase answered {status}.")
            self.confirmed += 1

    def nothings(self):
        for _ in range(SLICE):
            status, _ = self.client.post(f"/o/{self.organization.slug}/empty/")
            if status != 200:
                raise RuntimeError(f"An empty POST answered {status}.")
