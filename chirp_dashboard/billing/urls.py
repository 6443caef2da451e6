from django.urls import path

from .views import calendar, cards, details, exports, invoices, overview, payments

app_name = "billing"
urlpatterns = [
    path("", overview.overview, name="overview"),
    path("calendar/", calendar.calendar, name="calendar"),
    path("card/", cards.card, name="card"),
    path("card/save/", cards.save, name="card_save"),
    path("card/manage/", cards.manage, name="card_manage"),
    path("card/saved/", cards.saved, name="card_saved"),
    path("calendar/feed/", calendar.renew_feed, name="renew_feed"),
    path("calendar/feed/revoke/", calendar.revoke_feed, name="revoke_feed"),
    path("forecast/", overview.forecast, name="forecast"),
    path("forecast/csv/", exports.forecast, name="forecast_csv"),
    path("charges/", overview.charges, name="charges"),
    path("charges/csv/", exports.charges, name="charges_csv"),
    path("numbers/", overview.per_number, name="per_number"),
    path("numbers/csv/", exports.per_number, name="per_number_csv"),
    path("payments/", overview.payments, name="payments"),
    path("payments/csv/", exports.payments, name="payments_csv"),
    path("documents/", overview.documents, name="documents"),
    path("documents/csv/", exports.documents, name="documents_csv"),
    path("details/", details.details, name="details"),
    path("invoices/<slug:invoice>/", invoices.invoice, name="invoice"),
    path("invoices/<slug:invoice>/pdf/", invoices.pdf, name="invoice_pdf"),
    path("invoices/<slug:invoice>/csv/", invoices.csv, name="invoice_csv"),
    path("invoices/<slug:invoice>/pay/", payments.pay, name="pay"),
    path("payments/<slug:payment>/", payments.confirm, name="confirm"),
]
