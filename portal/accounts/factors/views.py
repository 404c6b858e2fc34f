"""The pages on which a person sets up and removes second factors. All of them need a recent proof of who one is."""

from collections.abc import Callable
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.views import GenerateRecoveryCodesView, ViewRecoveryCodesView
from allauth.mfa.totp.views import ActivateTOTPView, DeactivateTOTPView
from allauth.mfa.webauthn.views import AddWebAuthnView, RemoveWebAuthnView
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse_lazy

from portal.accounts.confirmed import recently_confirmed
from portal.accounts.factors.forms import AddPasskeyForm
from portal.accounts.factors.own import UNREADABLE
from portal.accounts.factors.required import cannot_confirm
from portal.http import PortalRequest
from portal.vault.keys import Sealed

ACCOUNT = reverse_lazy("account")


class ActivateApp(ActivateTOTPView):  # type: ignore[misc]
    def get_success_url(self) -> str:
        return str(reverse_lazy("mfa_view_recovery_codes") if self.did_generate_recovery_codes else ACCOUNT)


class AddPasskey(AddWebAuthnView):  # type: ignore[misc]
    form_class = AddPasskeyForm

    def get_success_url(self) -> str:
        return str(reverse_lazy("mfa_view_recovery_codes") if self.did_generate_recovery_codes else ACCOUNT)


class NewRecoveryCodes(GenerateRecoveryCodesView):  # type: ignore[misc]
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        try:
            shown: dict[str, Any] = super().get_context_data(**kwargs)
        except Sealed:  # the old ones cannot be read: the more reason to make new ones
            shown = super(GenerateRecoveryCodesView, self).get_context_data(**kwargs)
        return shown


def page(view: type[Any], *, adds: bool = False, **settings: Any) -> Callable[..., HttpResponse]:
    """The view behind step-up; what it changes and what the audit log says of it are one transaction."""
    bare = transaction.atomic(view.as_view(**settings))
    shown = recently_confirmed(bare)

    def readable(request: PortalRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return (bare if adds and cannot_confirm(request) else shown)(request, *args, **kwargs)
        except Sealed:
            messages.error(request, UNREADABLE)
            return redirect("account")

    return readable


activate_app = page(ActivateApp, adds=True)
deactivate_app = page(DeactivateTOTPView, success_url=ACCOUNT)
add_passkey = page(AddPasskey, adds=True)
recovery_codes = page(ViewRecoveryCodesView)
new_recovery_codes = page(NewRecoveryCodes)
_remove_passkey = page(RemoveWebAuthnView, success_url=ACCOUNT, pk_url_kwarg="number")


def remove_passkey(request: PortalRequest, number: int) -> HttpResponse:
    get_object_or_404(Authenticator, user=request.user, type=Authenticator.Type.WEBAUTHN, pk=number)
    return _remove_passkey(request, number=number)
