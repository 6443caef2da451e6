from django.urls import include, path

from . import key_views, views, webhook_views

app_name = "organizations"

webhooks = [
    path("", webhook_views.webhooks, name="webhooks"),
    path("create/", webhook_views.webhook_create, name="webhook_create"),
    path("deliveries/failed/", webhook_views.redeliver_failed, name="redeliver_failed"),
    path("deliveries/<slug:message>/", webhook_views.delivery, name="delivery"),
    path("deliveries/<slug:message>/again/", webhook_views.redeliver, name="redeliver"),
    path("<slug:webhook>/", webhook_views.webhook_change, name="webhook"),
    path("<slug:webhook>/remove/", webhook_views.webhook_remove, name="webhook_remove"),
    path("<slug:webhook>/secret/", webhook_views.webhook_secret, name="webhook_secret"),
    path("<slug:webhook>/test/", webhook_views.webhook_test, name="webhook_test"),
    path("<slug:webhook>/on/", webhook_views.webhook_switch_on, name="webhook_switch_on"),
]

inside = [
    path("apps/", views.application_list, name="application_list"),
    path("apps/create/", views.application_create, name="application_create"),
    path("apps/create/slug/", views.application_slug, name="application_slug"),
    path("apps/<slug:slug>/settings/", views.application_settings, name="application_settings"),
    path("apps/<slug:slug>/settings/name/", views.application_rename, name="application_rename"),
    path("apps/<slug:slug>/webhooks/", include(webhooks)),
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
