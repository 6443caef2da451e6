"""Nonsense in an address is answered with a page, never with a failure of ours."""

import pytest
from django.utils import timezone

from chirp_dashboard.organizations.models import User
from chirp_dashboard.organizations.permissions import Role

NONSENSE = {
    "nothing": "",
    "nul": "a\0b",
    "long": "x" * 10_000,
    "emoji": "📞🏳️‍🌈",
    "right to left": "مرحبا\u202e",
    "other digits": "٣",
    "huge number": "9" * 40,
    "unknown id": "ph_" + "0" * 27,
}
QUERIES = {
    "numbers/": "q state type region application sort after before",
    "apps/storefront/numbers/": "q state type region sort after before",
    "apps/storefront/numbers/assign/": "q number confirm",
    "apps/": "q state after before",
    "orders/": "after before",
    "billing/": "after before",
    "billing/charges/": "number kind month after before",
    "billing/charges/csv/": "number kind month after before",
    "billing/numbers/": "q state after before",
    "billing/numbers/csv/": "q state after before",
    "billing/documents/": "kind state year after before",
    "billing/documents/csv/": "kind state year after before",
    "billing/payments/": "state after before",
    "billing/payments/csv/": "state after before",
    "billing/applications/": "month application after",
    "billing/applications/csv/": "month application after",
    "numbers/purchase/local/": "country region place digits position can after before",
    "numbers/purchase/": "number",
    "numbers/purchase/quote/": "number",
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
def test_no_query_breaks_a_page(owner_client, storefront, nonsense):
    for path, names in QUERIES.items():
        for name in names.split():
            status = owner_client.get(f"/o/northwind/{path}", {name: nonsense}).status_code
            assert status in {200, 302, 404, 422}, f"{path}?{name}= answers {status}"


def test_a_person_may_have_the_longest_address(organization, operator):
    address = f"{'a' * 64}@{'b' * 60}.{'c' * 60}.{'d' * 60}.example"[:254]
    organization.admit(
        User.objects.create_user(address, "irrelevant"), Role.OWNER, by=operator, at=timezone.now()
    )
    assert organization.activity.get().subject == address


@pytest.mark.parametrize(
    ("path", "given", "said"),
    [
        ("apps/create/", {"name": "", "kind": "live"}, "Write a name."),
        ("apps/create/", {"name": "x" * 121, "kind": "live"}, "A name has at most 120 characters."),
        ("apps/storefront/webhooks/create/", {"url": ""}, "Write the address that events"),
        ("apps/storefront/webhooks/create/", {"url": "none"}, "Write an address such as https://"),
        ("settings/change/", {"name": "N", "currency": ""}, "Write the three letters"),
        ("settings/change/", {"name": "N", "billing_day": "32"}, "Write a day from 1 to 31."),
    ],
)
def test_a_mistake_is_answered_with_how_to_mend_it(owner_client, storefront, path, given, said):
    response = owner_client.post(f"/o/northwind/{path}", given)
    assert response.status_code == 422
    assert said in response.content.decode()
