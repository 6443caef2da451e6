"""How operations say which kind of key they take."""

from ninja.security.base import AuthBase

from chirp_dashboard.organizations.models import ApiKey


class KeyOf(AuthBase):
    """The door has looked the key up; here its kind decides."""

    openapi_type = "http"
    openapi_scheme = "bearer"
    kind = None

    def __call__(self, request):
        return request.key if request.key.kind == self.kind else None


class AppKey(KeyOf):
    """An application's key, `sk_live_app_…` or `sk_test_app_…`."""

    kind = ApiKey.Kind.APP


class AdminKey(KeyOf):
    """An organization's key, `sk_admin_…`."""

    kind = ApiKey.Kind.ADMIN


app_key, admin_key = AppKey(), AdminKey()
