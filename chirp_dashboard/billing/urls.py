from django.urls import path

from . import views

app_name = "billing"
urlpatterns = [
    path("", views.overview, name="overview"),
    path("charges/", views.charges, name="charges"),
    path("invoices/<slug:invoice>/", views.invoice, name="invoice"),
]
