"""A person's own password: changed by who knows it, and every other session of theirs ends with the change."""

from typing import Any

from allauth.account.views import PasswordChangeView
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from portal.accounts import sessions
from portal.accounts.models import User


class ChangePassword(PasswordChangeView):  # type: ignore[misc]
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        assert isinstance(request.user, User)
        if not request.user.has_usable_password():
            messages.info(request, "You sign in without a password, so there is none to change.")
            return redirect("account")
        response: HttpResponse = super().dispatch(request, *args, **kwargs)
        return response

    def get_default_success_url(self) -> str:
        return reverse("account")

    @transaction.atomic
    def form_valid(self, form: Any) -> HttpResponse:
        # Django's session hash depends on the password: other sessions, and their event streams, are refused from now.
        answer: HttpResponse = super().form_valid(form)
        sessions.password_changed(self.request, form.user)
        return answer
