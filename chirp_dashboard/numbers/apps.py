from django.apps import AppConfig


class NumbersConfig(AppConfig):
    name = "chirp_dashboard.numbers"
    label = "numbers"
