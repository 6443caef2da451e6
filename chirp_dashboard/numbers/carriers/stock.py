"""The stock carrier: our own inventory table. Everything happens inside the caller's transaction."""

from datetime import timedelta

from django.apps import apps
from django.db.models import Exists, OuterRef

from chirp_dashboard.billing.models import Price
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.postgres.prepared import columns_of, fetch

from .base import Answer, Carrier, Outcome

KEPT_ASIDE = timedelta(days=44)


class StockCarrier(Carrier):
    name = "stock"
    is_local = True
    can_hold = True

    @property
    def inventory(self):
        return apps.get_model("numbers", "InventoryNumber").objects

    def priced(self, organization, rows, *, on):
        prices = Price.objects.in_force(organization, on=on)
        for row in rows:
            if price := prices.get((row.country, row.number_type)):
                row.carrier = self.name
                row.purchase_fee, row.rental = price.purchase_fee, price.rental
                row.interval_months, row.currency = price.interval_months, price.currency
                yield row

    def claim(self, numbers, *, at):
        free = {row.key: row for row in self._locked(numbers) if row.is_for_sale(at=at)}
        return free, {key: "just sold" for key in numbers if key not in free}

    def _locked(self, numbers):
        """The rows of `numbers`, locked in the order of the index, so that two baskets never deadlock.

        A number somebody owns is left out even if an operator put its row up for sale by mistake.
        """
        inventory = apps.get_model("numbers", "InventoryNumber")
        statement = f"""
            SELECT {columns_of(inventory, "stock")} FROM numbers_inventorynumber stock
            WHERE (country, number) IN (
                SELECT * FROM unnest(%(countries)s::text[], %(numbers)s::text[])
            ) AND NOT EXISTS (
                SELECT FROM numbers_phonenumber owned
                WHERE owned.country = stock.country AND owned.number = stock.number
                  AND owned.state <> 'released' AND NOT owned.is_test
            )
            ORDER BY country, number
            FOR NO KEY UPDATE
        """  # noqa: S608 - the column names are our own
        asked = {"countries": [c for c, _ in numbers], "numbers": [n for _, n in numbers]}
        return [row for (row,) in fetch([inventory], statement, asked)]

    def order(self, line):
        """Stock was claimed when the order was placed; it is ours already."""
        return Answer(Outcome.YES)

    look_up = order

    def set_aside(self, lines):
        self.inventory.among([line.key for line in lines]).update(status="claimed")

    def let_go(self, lines):
        self.inventory.among([line.key for line in lines]).filter(status="claimed").update(
            status="for_sale"
        )

    def release(self, phone_number, *, at):
        self.inventory.filter(
            country=phone_number.country, number=phone_number.number, status="sold"
        ).update(status="for_sale", not_for_sale_until=at + KEPT_ASIDE)

    def release_all(self, phone_numbers, *, at):
        given_back = phone_numbers.filter(country=OuterRef("country"), number=OuterRef("number"))
        self.inventory.filter(Exists(given_back.order_by()), status="sold").update(
            status="for_sale", not_for_sale_until=at + KEPT_ASIDE
        )

    def take_back(self, phone_number, *, at):
        rows = self.inventory.select_for_update().filter(
            country=phone_number.country, number=phone_number.number
        )
        if not any(row.status == "for_sale" for row in rows):
            raise Refused(f"{phone_number} is no longer available, so it cannot be brought back.")
        rows.update(status="sold", not_for_sale_until=None)
