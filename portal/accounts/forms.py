"""What admins fill in about people."""

from django import forms

from portal.accounts.roles import Role


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices)

    def clean_role(self) -> Role:
        return Role(self.cleaned_data["role"])
