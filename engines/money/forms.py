"""What people fill in about money."""

from decimal import Decimal

from django import forms

from engines.money.amounts import MICROCENTS_PER_DOLLAR
from engines.money.models import Limits
from portal.accounts.models import Team


class PurchaseForm(forms.Form):
    """Why, and what the dialog showed."""

    reason = forms.CharField(
        max_length=500,
        label="Why?",
        help_text="Shown in the ledger, and kept in the audit log.",
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "Render for client X must finish, ticket OPS-123"}),
    )
    quote = forms.CharField(widget=forms.HiddenInput, max_length=2000)


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=500, label="Why?")


def _dollars(label: str) -> forms.DecimalField:
    return forms.DecimalField(label=label, min_value=0, max_value=10_000_000, decimal_places=2)


def _hours(label: str, least: Decimal) -> forms.DecimalField:
    return forms.DecimalField(label=label, min_value=least, max_value=Decimal(87600), decimal_places=2)


class LimitsForm(forms.Form):
    """A team's limits, in dollars and hours."""

    operation_hours = _hours("Hours at once", Decimal("0.25"))
    operation_cost = _dollars("Dollars at once")
    approval_cost = _dollars("Dollars above which a second person approves")
    user_day = _dollars("Dollars of one person a day")
    team_day = _dollars("Dollars of the team a day")
    team_month = _dollars("Dollars of the team a month")
    engine_hours = _hours("Hours of one engine in all", Decimal(0))

    HOURS = ("operation_hours", "engine_hours")

    @classmethod
    def showing(cls, limits: Limits) -> "LimitsForm":
        shown = {name: getattr(limits, name) for name in cls.base_fields}
        dollars = {
            name: Decimal(value) / MICROCENTS_PER_DOLLAR for name, value in shown.items() if name not in cls.HOURS
        }
        return cls(initial={name: f"{value:.2f}" for name, value in (shown | dollars).items()})

    def save(self, team: Team) -> Limits:
        values = {
            name: value if name in self.HOURS else int(value * MICROCENTS_PER_DOLLAR)
            for name, value in self.cleaned_data.items()
        }
        return Limits.objects.update_or_create(team=team, defaults=values)[0]
