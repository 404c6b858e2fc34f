"""What allauth may do here: sign people in and out. People are invited; nobody signs themselves up."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.internal import ratelimit
from allauth.core.internal.ratelimit import RateLimitUsage, get_ip
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme

from portal.accounts import devices, sessions
from portal.accounts.models import User
from portal.accounts.sso import views as sso


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

    def post_login(self, request: HttpRequest, user: User, **more: Any) -> HttpResponse:
        response: HttpResponse = super().post_login(request, user, **more)
        devices.remember(request, response, user.email)
        return response

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Count the try before the password is looked at, and refuse it if there were too many.

        A person's own browser has a count of its own: nothing that is tried elsewhere fills it.
        """
        email = str(credentials.get("email", ""))
        try:
            tries = [self._try(request, "login_failed", self._get_login_attempts_cache_key(request, **credentials))]
            if not devices.known(request, email):
                tries.append(self._try(request, "login_failed_from_address"))
        except ValidationError:
            sessions.throttled(request, email)
            raise
        self._login_failed_rl_usage = RateLimitUsage([usage for one in tries for usage in one.usage])

    def get_reauthentication_methods(self, user: User) -> list[dict[str, str]]:
        return [*super().get_reauthentication_methods(user), *sso.confirming(user)]

    def _try(self, request: HttpRequest, action: str, key: str | None = None) -> RateLimitUsage:
        usage: RateLimitUsage | None = ratelimit.consume(request, app="allauth.account", action=action, key=key)
        if usage is None:
            raise self.validation_error("too_many_login_attempts")
        return usage

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        # Not allauth's, which names the Host header too (a guesser would get new tries with each port he writes there)
        # and no address: whoever knows somebody's e-mail address could lock them out.
        email = str(credentials.get("email", "")).lower()
        known = devices.known(request, email)
        return f"{email} on {known}" if known else f"{email} from {get_ip(request)}"
