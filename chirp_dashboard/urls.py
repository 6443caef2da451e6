from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    path("v1/", include("chirp_dashboard.api.v1")),
    path("", include("chirp_dashboard.organizations.urls")),
    path("o/<slug:org>/billing/", include("chirp_dashboard.billing.urls")),
    path("o/<slug:org>/", include("chirp_dashboard.numbers.urls")),
]
