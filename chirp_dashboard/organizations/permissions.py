"""Who may do what: the one table that views, templates, API and admin decide from."""

from functools import wraps

from django.core.exceptions import PermissionDenied
from django.db import models


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    DEVELOPER = "developer", "Developer"
    BILLING = "billing", "Billing"
    VIEWER = "viewer", "Viewer"


EVERYONE = frozenset(Role)
SPENDERS = frozenset({Role.OWNER, Role.ADMIN})
BUILDERS = SPENDERS | {Role.DEVELOPER}
PAYERS = SPENDERS | {Role.BILLING}

PERMISSIONS = {
    "view_numbers": EVERYONE,  # numbers, applications and prices
    "view_billing": PAYERS,  # charges, invoices, what is due
    "manage_billing": PAYERS,  # cards, paying, billing address, calendar feeds
    "assign_numbers": BUILDERS,  # assign, move, remove, label
    "manage_webhooks": BUILDERS,
    "manage_keys": BUILDERS,  # of applications
    "manage_admin_keys": SPENDERS,  # of the organization: they can purchase
    "purchase_numbers": SPENDERS,  # hold, purchase, release, undo, lock
    "manage_applications": SPENDERS,
    "manage_settings": SPENDERS,
    "manage_owners": frozenset({Role.OWNER}),
}


class Grants:
    """What one role may do, as attributes: `request.can.purchase_numbers`."""

    def __init__(self, role):
        for permission, roles in PERMISSIONS.items():
            setattr(self, permission, role in roles)


GRANTS = {role.value: Grants(role) for role in Role}
NO_GRANTS = Grants(None)


def roles_with(permission):
    """The names of the roles that hold `permission`, strongest first: "Owner, Admin or Billing"."""
    *most, last = [role.label for role in Role if role in PERMISSIONS[permission]]
    return f"{', '.join(most)} or {last}" if most else last


def requires(permission):
    """Refuse a member whose role lacks `permission` with 403; strangers never get this far (404)."""
    if permission not in PERMISSIONS:
        raise ValueError(f"No permission is called {permission!r}.")

    def decorate(view):
        @wraps(view)
        def guarded(request, *args, **kwargs):
            if not getattr(request.can, permission):
                raise PermissionDenied(
                    f"Your role here is {request.membership.get_role_display()}. "
                    f"This needs {roles_with(permission)}."
                )
            return view(request, *args, **kwargs)

        guarded.permission = permission
        return guarded

    return decorate
