from django.urls import include, path

from . import key_views, views, webhook_views

app_name = "organizations"

inside = [
    path("apps/", views.application_list, name="application_list"),
    path("apps/create/", views.application_create, name="application_create"),
    path("apps/create/slug/", views.application_slug, name="application_slug"),
    path("apps/<slug:slug>/settings/", views.application_settings, name="application_settings"),
    path("apps/<slug:slug>/settings/name/", views.application_rename, name="application_rename"),
    path("apps/<slug:slug>/settings/webhook/", views.webhook, name="webhook"),
    path("apps/<slug:slug>/settings/webhook/remove/", views.webhook_remove, name="webhook_remove"),
    path(
        "apps/<slug:slug>/settings/webhook/deliveries/",
        webhook_views.deliveries,
        name="webhook_deliveries",
    ),
    path(
        "apps/<slug:slug>/settings/webhook/deliveries/<slug:message>/again/",
        webhook_views.webhook_redeliver,
        name="webhook_redeliver",
    ),
    path(
        "apps/<slug:slug>/settings/webhook/test/", webhook_views.webhook_test, name="webhook_test"
    ),
    path(
        "apps/<slug:slug>/settings/webhook/secret/",
        webhook_views.webhook_secret,
        name="webhook_secret",
    ),
    path("apps/<slug:slug>/keys/", key_views.application_keys, name="application_keys"),
    path(
        "apps/<slug:slug>/keys/create/",
        key_views.application_key_create,
        name="application_key_create",
    ),
    path(
        "apps/<slug:slug>/keys/<slug:key>/revoke/",
        key_views.application_key_revoke,
        name="application_key_revoke",
    ),
    path("settings/", views.settings, name="settings"),
    path("settings/keys/", key_views.admin_keys, name="admin_keys"),
    path("settings/keys/create/", key_views.admin_key_create, name="admin_key_create"),
    path(
        "settings/keys/<slug:admin_key>/revoke/",
        key_views.admin_key_revoke,
        name="admin_key_revoke",
    ),
    path("settings/change/", views.change_settings, name="change_settings"),
]

urlpatterns = [
    path("", views.home, name="home"),
    path("o/<slug:org>/", include(inside)),
]
