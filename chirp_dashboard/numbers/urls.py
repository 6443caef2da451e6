from django.urls import path

from .views import archive

app_name = "numbers"
urlpatterns = [
    path("apps/<slug:slug>/archive/", archive.archive_application, name="archive_application"),
]
