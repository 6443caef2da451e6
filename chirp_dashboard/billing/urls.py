from django.urls import path

from .views import invoices, overview, payments

app_name = "billing"
urlpatterns = [
    path("", overview.overview, name="overview"),
    path("charges/", overview.charges, name="charges"),
    path("invoices/<slug:invoice>/", invoices.invoice, name="invoice"),
    path("invoices/<slug:invoice>/pay/", payments.pay, name="pay"),
    path("payments/<slug:payment>/", payments.confirm, name="confirm"),
]
