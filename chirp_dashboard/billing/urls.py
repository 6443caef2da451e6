from django.urls import path

from .views import invoices, overview

app_name = "billing"
urlpatterns = [
    path("", overview.overview, name="overview"),
    path("charges/", overview.charges, name="charges"),
    path("invoices/<slug:invoice>/", invoices.invoice, name="invoice"),
]
