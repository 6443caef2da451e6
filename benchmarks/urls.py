"""The product's addresses, and one that does nothing: the floor for every page and every POST."""

from django.http import HttpResponse, JsonResponse
from django.urls import include, path

from chirp_dashboard.api.door import door
from chirp_dashboard.organizations.permissions import requires


@requires("view_numbers")
def empty(request, org):
    """Signed in, member of the organization, allowed; then nothing."""
    return HttpResponse()


@door
def empty_answer(request):
    """The key known, counted against its limit; then nothing."""
    return JsonResponse({})


urlpatterns = [
    path("v1/empty", empty_answer),
    path("o/<slug:org>/empty/", empty),
    path("", include("chirp_dashboard.urls")),
]
