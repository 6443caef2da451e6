"""Actions that ask for something on a page of their own before they call a verb."""

import secrets

from django.contrib import messages
from django.http import HttpResponseRedirect
from django.shortcuts import render

from chirp_dashboard.organizations.refusals import Refused


class Asks:
    """The page carries a word that is good for one answer, so a form sent twice does its work once.

    With `preview` an answer is first shown with what it leads to, and done when it comes a second time.
    """

    def ask(
        self, request, queryset, *, action, title, form_class, organization_of, do, preview=None,
        initial=None, template="admin/billing/ask.html",
    ):  # fmt: skip
        """Show `form_class` for the one row chosen; with a valid answer `do(row, answer)`.

        `preview(row, answer)` returns what the preview page says, of that `carried` comes back as it
        is; `initial(row)` what the form begins with.
        """
        rows = list(queryset[:2])
        if len(rows) != 1:
            self.message_user(request, "Choose one row for this.", messages.WARNING)
            return None
        row = rows[0]
        is_answer = "answer" in request.POST
        is_final = is_answer and (preview is None or "confirmed" in request.POST)
        form = form_class(
            request.POST if is_answer else None,
            organization=organization_of(row),
            initial=initial(row) if initial else None,
        )
        if is_final and not self._is_first_answer(request):
            self.message_user(request, "This form was sent already.", messages.WARNING)
            return HttpResponseRedirect(request.get_full_path())
        seen = None
        if is_answer and form.is_valid():
            try:
                if is_final:
                    self.message_user(request, do(row, form.cleaned_data), messages.SUCCESS)
                    return HttpResponseRedirect(request.get_full_path())
                seen = preview(row, form.cleaned_data)
            except Refused as refusal:
                form.add_error(None, str(refusal))
        context = {
            **self.admin_site.each_context(request),
            "title": title, "form": form, "row": row, "action": action, "opts": self.opts,
            "once": self._one_answer(request), "asks_first": preview is not None, "seen": seen,
        }  # fmt: skip
        return render(request, template, context)

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

    def each(self, request, queryset, verb, *, most):
        """Call `verb(row)` for each row chosen, at most so many; it returns what to say of it."""
        rows = list(queryset[: most + 1])
        if len(rows) > most:
            self.message_user(request, f"Choose at most {most} rows for this.", messages.WARNING)
            return
        for row in rows:
            try:
                self.message_user(request, verb(row), messages.SUCCESS)
            except Refused as refusal:
                self.message_user(request, str(refusal), messages.WARNING)
