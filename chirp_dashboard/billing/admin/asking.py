"""Actions that ask for something on a page of their own before they call a verb."""

import secrets

from django.contrib import messages
from django.http import HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone

from chirp_dashboard.billing.models import Charge
from chirp_dashboard.organizations.operating import Kept
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.organizations.templatetags.ui import money


class Asks(Kept):
    """Actions that ask for something on a page of their own before they call a verb.

    The page carries a word that is good for one answer, so a form sent twice does its work once.
    """

    def ask(self, request, queryset, *, action, title, form_class, organization_of, do):
        """Show `form_class` for the one row chosen; with a valid answer `do(row, answer)`."""
        rows = list(queryset[:2])
        if len(rows) != 1:
            self.message_user(request, "Choose one row for this.", messages.WARNING)
            return None
        row = rows[0]
        organization = organization_of(row)
        is_answer = "answer" in request.POST
        form = form_class(request.POST if is_answer else None, organization=organization)
        if is_answer and not self._is_first_answer(request):
            self.message_user(request, "This form was sent already.", messages.WARNING)
            return HttpResponseRedirect(request.get_full_path())
        if is_answer and form.is_valid():
            try:
                self.message_user(request, do(row, form.cleaned_data), messages.SUCCESS)
            except Refused as refusal:
                form.add_error(None, str(refusal))
            else:
                return HttpResponseRedirect(request.get_full_path())
        context = {
            **self.admin_site.each_context(request),
            "title": title, "form": form, "row": row, "action": action, "opts": self.opts,
            "once": self._one_answer(request),
        }  # fmt: skip
        return render(request, "admin/billing/ask.html", context)

    def _one_answer(self, request):
        word = secrets.token_urlsafe(16)
        request.session["operator_asked"] = [
            *request.session.get("operator_asked", [])[-9:],
            word,
        ]
        return word

    def _is_first_answer(self, request):
        asked = request.session.get("operator_asked", [])
        if request.POST["answer"] not in asked:
            return False
        asked.remove(request.POST["answer"])
        request.session["operator_asked"] = asked
        return True

    def has_record_permission(self, request):
        return request.user.has_perm("billing.add_payment")

    def has_credit_permission(self, request):
        return request.user.has_perm("billing.add_charge")

    def give_credit(self, request, organization, answer, *, corrects=None):
        credit = Charge.objects.issue_credit(
            organization,
            amount=answer["amount"],
            reason=answer["reason"],
            corrects=corrects,
            by=request.user,
            at=timezone.now(),
        )
        given = money(-credit.amount, credit.currency)
        return f"Credited {given} to {organization}; it joins the next invoice."
