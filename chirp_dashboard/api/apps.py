from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "chirp_dashboard.api"
    label = "api"
