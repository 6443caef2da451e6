"""What happens around every view: health answers, sign-in, the privacy of pages, the organization."""

from django.conf import settings
from django.contrib.auth import middleware as auth_middleware
from django.contrib.auth.views import redirect_to_login
from django.shortcuts import get_object_or_404, resolve_url
from django.utils.cache import patch_vary_headers
from django_htmx.http import HttpResponseClientRedirect

from chirp_dashboard import health
from chirp_dashboard.organizations.models import Membership
from chirp_dashboard.organizations.permissions import NO_GRANTS


class HealthMiddleware:
    """Answer /healthz and /readyz before host checks, redirects to https and sessions can object."""

    answers = {"/healthz": health.process, "/readyz": health.readiness}

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        answer = self.answers.get(request.path_info)
        if answer is None or request.method not in {"GET", "HEAD"}:
            return self.get_response(request)
        return answer()


class LoginRequiredMiddleware(auth_middleware.LoginRequiredMiddleware):
    """Every view asks for sign-in unless it is marked open with `login_not_required`.

    A session that ended must not put the login form into a table cell: htmx is told to load the login
    as a page, which afterwards leads back to the page that was open.
    """

    def handle_no_permission(self, request, view_func):
        if not request.htmx:
            return super().handle_no_permission(request, view_func)
        page = request.htmx.current_url_abs_path or resolve_url(settings.LOGIN_REDIRECT_URL)
        login = redirect_to_login(page, resolve_url(self.get_login_url(view_func)))
        return HttpResponseClientRedirect(login.url)


class PrivatePagesMiddleware:
    """Keep fragments apart from pages in every cache, and signed-in pages out of all of them."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        patch_vary_headers(response, ["HX-Request"])
        if request.user.is_authenticated:
            response.headers["Cache-Control"] = "no-store"
        return response


class OrganizationMiddleware:
    """Resolve `org` of the address to the signed-in person's membership, or answer 404.

    One query brings everything the frame of a page shows: `request.organization`,
    `request.membership`, `request.can`, `request.applications` and `request.organizations`.
    """

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        request.organization = request.membership = None
        request.can = NO_GRANTS
        return self.get_response(request)

    def process_view(self, request, view, args, kwargs):
        if "org" not in kwargs or not request.user.is_authenticated:
            return
        membership = Membership.objects.framed(request.user).filter(
            organization__slug=kwargs["org"]
        )
        request.membership = get_object_or_404(membership)
        request.organization = request.membership.organization
        request.applications = request.membership.applications
        request.organizations = request.membership.organizations
        request.can = request.membership.can
