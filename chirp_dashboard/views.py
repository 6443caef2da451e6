from django.shortcuts import render


def csrf_failure(request, reason=""):
    """Say that the form is stale (signed out in another tab, or cookies refused), not that it is forged."""
    return render(request, "403_csrf.html", status=403)
