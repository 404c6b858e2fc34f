"""A person's own password: changed by who knows it, and every other session of theirs ends with the change."""

from typing import Any

from allauth.account.views import PasswordChangeView
from django.db import transaction
from django.http import HttpResponse
from django.urls import reverse

from portal.accounts import sessions


class ChangePassword(PasswordChangeView):  # type: ignore[misc]
    def get_default_success_url(self) -> str:
        return reverse("account")

    @transaction.atomic
    def form_valid(self, form: Any) -> HttpResponse:
        # Django's session hash depends on the password: other sessions, and their event streams, are refused from now.
        answer: HttpResponse = super().form_valid(form)
        sessions.password_changed(self.request, form.user)
        return answer
