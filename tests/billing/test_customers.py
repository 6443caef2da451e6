"""What an organization is called at a gateway, when that forgets it."""

from chirp_dashboard.billing.models import Customer

from .conftest import DECEMBER, noon


def test_whoever_forgets_late_leaves_the_new_customer_alone(organization):
    Customer.objects.create(organization=organization, gateway="stripe", gateway_id="cus_1")
    first, late = Customer.objects.get(), Customer.objects.get()
    first.forget(at=noon(DECEMBER))
    assert Customer.objects.get().gateway_id == ""
    Customer.objects.update(gateway_id="cus_2", payment_method="pm_2")
    late.forget(at=noon(DECEMBER))
    known = Customer.objects.get()
    assert (known.gateway_id, known.payment_method) == ("cus_2", "pm_2")
