"""The pages on which a person sets up and removes second factors. All of them need a recent proof of who one is."""

from collections.abc import Callable
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.views import GenerateRecoveryCodesView, ViewRecoveryCodesView
from allauth.mfa.totp.views import ActivateTOTPView, DeactivateTOTPView
from allauth.mfa.webauthn.views import AddWebAuthnView, RemoveWebAuthnView
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse_lazy

from portal.accounts.confirmed import recently_confirmed
from portal.accounts.factors.forms import AddPasskeyForm
from portal.http import PortalRequest

ACCOUNT = reverse_lazy("account")


class ActivateApp(ActivateTOTPView):  # type: ignore[misc]
    def get_success_url(self) -> str:
        return str(reverse_lazy("mfa_view_recovery_codes") if self.did_generate_recovery_codes else ACCOUNT)


class AddPasskey(AddWebAuthnView):  # type: ignore[misc]
    form_class = AddPasskeyForm

    def get_success_url(self) -> str:
        return str(reverse_lazy("mfa_view_recovery_codes") if self.did_generate_recovery_codes else ACCOUNT)


def page(view: type[Any], **settings: Any) -> Callable[..., HttpResponse]:
    """The view behind step-up; what it changes and what the audit log says of it are one transaction."""
    return recently_confirmed(transaction.atomic(view.as_view(**settings)))


activate_app = page(ActivateApp)
deactivate_app = page(DeactivateTOTPView, success_url=ACCOUNT)
add_passkey = page(AddPasskey)
recovery_codes = page(ViewRecoveryCodesView)
new_recovery_codes = page(GenerateRecoveryCodesView)
_remove_passkey = page(RemoveWebAuthnView, success_url=ACCOUNT, pk_url_kwarg="number")


def remove_passkey(request: PortalRequest, number: int) -> HttpResponse:
    get_object_or_404(Authenticator, user=request.user, type=Authenticator.Type.WEBAUTHN, pk=number)
    return _remove_passkey(request, number=number)
