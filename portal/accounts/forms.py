"""What people fill in to sign in, and what admins fill in about people."""

from typing import Any

from allauth.account import forms as allauth
from allauth.core import context
from django import forms
from django.contrib.auth.password_validation import validate_password
from django.http import HttpRequest, HttpResponse

from portal.accounts import lifetime, sessions
from portal.accounts.models import User
from portal.accounts.roles import Role


class SignInForm(allauth.LoginForm):  # type: ignore[misc]
    def login(self, request: HttpRequest, redirect_url: Any = None) -> HttpResponse:
        response: HttpResponse = super().login(request, redirect_url=redirect_url)
        if request.user.is_authenticated:
            lifetime.begin(request)  # again: allauth has just set an end of its own
        return response


class ConfirmByPasswordForm(allauth.ReauthenticateForm):  # type: ignore[misc]
    def clean_password(self) -> str:
        try:
            password: str = super().clean_password()
        except forms.ValidationError:
            sessions.not_confirmed(context.request, self.user, "the password was wrong")
            raise
        return password


class ChangePasswordForm(allauth.ChangePasswordForm):  # type: ignore[misc]
    def clean_oldpassword(self) -> str:
        try:
            password: str = super().clean_oldpassword()
        except forms.ValidationError:
            sessions.not_confirmed(context.request, self.user, "the password to be changed was wrong")
            raise
        return password


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices)

    def clean_role(self) -> Role:
        return Role(self.cleaned_data["role"])


class InviteForm(RoleForm):
    email = forms.EmailField(max_length=254, label="E-mail address")
    field_order = ("email", "role")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].initial = Role.VIEWER


class JoinForm(forms.Form):
    """Somebody new: a name and a password. The address is the invited one."""

    name = forms.CharField(max_length=100, label="Your name", help_text="What others see.")
    password1 = forms.CharField(
        max_length=500,
        label="Password",
        strip=False,
        help_text="At least 12 characters; a few words are fine.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    password2 = forms.CharField(
        max_length=500,
        label="Password, once more",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, *args: Any, email: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._email = email

    def clean(self) -> dict[str, Any]:
        first, second = self.cleaned_data.get("password1"), self.cleaned_data.get("password2")
        if first and second and first != second:
            self.add_error("password2", "The two are not the same.")
        elif first:
            try:
                validate_password(first, User(email=self._email, name=self.cleaned_data.get("name", "")))
            except forms.ValidationError as error:
                self.add_error("password1", error)
        return self.cleaned_data
