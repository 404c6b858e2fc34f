"""What allauth may do here: sign people in and out. People are invited; nobody signs themselves up."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme

from portal.accounts import sessions
from portal.accounts.models import User


class Adapter(DefaultAccountAdapter):  # type: ignore[misc]
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def is_safe_url(self, url: str) -> bool:
        """Only paths of this site: allauth would also lead to the other ALLOWED_HOSTS."""
        return url_has_allowed_host_and_scheme(url, allowed_hosts=None)

    def login(self, request: HttpRequest, user: User) -> None:
        super().login(request, user)
        sessions.started(request, user)

    def logout(self, request: HttpRequest) -> None:
        user = request.user
        super().logout(request)
        if isinstance(user, User):
            sessions.ended(request, user)

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        sessions.refused(request, str(credentials.get("email", "")), "the password was wrong")

    def respond_user_inactive(self, request: HttpRequest, user: User) -> HttpResponse:
        sessions.refused(request, user.email, "the account is switched off")
        messages.error(request, "This account is switched off. An admin of your team can switch it on again.")
        return redirect("account_login")

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        # Not allauth's, which names the Host header too: a guesser would get new tries with each port he writes there.
        return str(credentials.get("email", "")).lower()
