"""What people fill in to sign in, and what admins fill in about people."""

from typing import Any

from allauth.account.forms import LoginForm
from django import forms
from django.http import HttpRequest, HttpResponse

from portal.accounts import lifetime
from portal.accounts.roles import Role


class SignInForm(LoginForm):  # type: ignore[misc]
    def login(self, request: HttpRequest, redirect_url: Any = None) -> HttpResponse:
        response: HttpResponse = super().login(request, redirect_url=redirect_url)
        if request.user.is_authenticated:
            lifetime.begin(request)  # again: allauth has just set an end of its own
        return response


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices)

    def clean_role(self) -> Role:
        return Role(self.cleaned_data["role"])
