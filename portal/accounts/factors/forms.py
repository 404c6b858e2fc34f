"""allauth's forms for codes and passkeys, with what they leave open."""

import contextlib
from typing import Any

from allauth.core import context
from allauth.mfa import app_settings, signals
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base import forms as codes
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn import forms as passkeys
from allauth.mfa.webauthn.internal import auth as webauthn
from django.core.cache import cache
from django.core.exceptions import ValidationError

from portal.accounts import sessions
from portal.accounts.factors.own import UNREADABLE
from portal.vault.keys import Sealed


class OnceMixin:
    """A code counts once as long as it is valid: with a tolerance, that is longer than allauth remembers it.

    Where the portal cannot read what a code is checked with, the form says so.
    """

    user: Any

    def clean_code(self) -> str:
        try:
            code: str = super().clean_code()  # type: ignore[misc]
        except Sealed:
            raise ValidationError(UNREADABLE, "unreadable") from None
        except ValidationError as error:
            if error.code == "too_many_login_attempts":
                sessions.throttled(context.request, self.user.email)
            raise
        periods = 2 * app_settings.TOTP_TOLERANCE + 1
        digits = "".join(filter(str.isdigit, code))
        if not cache.add(f"second-factor:{self.user.pk}:{digits}", "used", timeout=periods * app_settings.TOTP_PERIOD):
            raise get_adapter().validation_error("incorrect_code")
        return code


class CodeForm(OnceMixin, codes.AuthenticateForm):  # type: ignore[misc]
    pass


class ConfirmByCodeForm(OnceMixin, codes.ReauthenticateForm):  # type: ignore[misc]
    pass


class AuditedMixin:
    """A passkey that is refused says so to the audit log, as a wrong code does."""

    user: Any

    def clean_credential(self) -> Authenticator:
        try:
            return super().clean_credential()  # type: ignore[misc]
        except ValidationError:
            passkey = Authenticator(user=self.user, type=Authenticator.Type.WEBAUTHN, data={"name": "passkey"})
            signals.authentication_failed.send(
                sender=Authenticator, request=context.request, user=self.user, authenticator=passkey
            )
            raise


class PasskeyForm(AuditedMixin, passkeys.AuthenticateWebAuthnForm):  # type: ignore[misc]
    pass


class ConfirmByPasskeyForm(AuditedMixin, passkeys.ReauthenticateWebAuthnForm):  # type: ignore[misc]
    pass


class PasskeyAloneForm(passkeys.LoginWebAuthnForm):  # type: ignore[misc]
    """A passkey instead of the password: refused, its person's teams hear of it."""

    def clean_credential(self) -> Authenticator:
        try:
            return super().clean_credential()
        except ValidationError:
            self._audit()
            raise

    def _audit(self) -> None:
        with contextlib.suppress(ValidationError, AttributeError):  # what was sent names nobody
            user = webauthn.extract_user_from_response(self.cleaned_data["credential"])
            sessions.passkey_refused(context.request, user)


class AddPasskeyForm(passkeys.AddWebAuthnForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].label = "Name"
        self.fields["name"].help_text = "So that you know it again: the device or the key it is on."
        self.fields["passwordless"].label = "Sign in with this passkey alone"
        self.fields[
            "passwordless"
        ].help_text = "It then asks for your fingerprint, face or PIN instead of the password."
        self.initial.setdefault("passwordless", True)
