from django.contrib import admin
from django.urls import include, path

from chirp_dashboard.billing.views.calendar import feed
from chirp_dashboard.billing.views.inbox import stripe_webhook

urlpatterns = [
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    path("v1/", include("chirp_dashboard.api.v1")),
    path("", include("chirp_dashboard.organizations.urls")),
    path("billing/stripe/webhook", stripe_webhook, name="stripe_webhook"),
    path("calendar/<slug:secret>.ics", feed, name="calendar_feed"),
    path("o/<slug:org>/billing/", include("chirp_dashboard.billing.urls")),
    path("o/<slug:org>/", include("chirp_dashboard.numbers.urls")),
]
