"""What people fill in about money."""

from decimal import Decimal
from typing import Any

from django import forms

from engines.forms import LEDGER, ReasonForm
from engines.money.amounts import MICROCENTS_PER_DOLLAR
from engines.money.models import Amounts


class PurchaseForm(forms.Form):
    """Why, and what the dialog showed."""

    reason = forms.CharField(
        max_length=500,
        label="Why?",
        help_text=LEDGER,
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "Render for client X must finish, ticket OPS-123"}),
    )
    quote = forms.CharField(widget=forms.HiddenInput, max_length=2000)


def _dollars(label: str) -> forms.DecimalField:
    return forms.DecimalField(label=label, min_value=0, max_value=10_000_000, decimal_places=2)


def _hours(label: str, least: Decimal) -> forms.DecimalField:
    return forms.DecimalField(label=label, min_value=least, max_value=Decimal(87600), decimal_places=2)


class LimitsForm(ReasonForm):
    """A team's limits, in dollars and hours. With `current`, none may be raised above the `ceiling`."""

    operation_hours = _hours("Hours at once", Decimal("0.25"))
    operation_cost = _dollars("Dollars at once")
    approval_cost = _dollars("Dollars above which a second person approves")
    user_day = _dollars("Dollars of one person a day")
    team_day = _dollars("Dollars of the team a day")
    team_month = _dollars("Dollars of the team a month")
    engine_hours = _hours("Hours of one engine in all", Decimal(0))

    HOURS = ("operation_hours", "engine_hours")
    AMOUNTS = (*HOURS, "operation_cost", "approval_cost", "user_day", "team_day", "team_month")
    field_order = (
        *("operation_hours", "operation_cost", "approval_cost", "user_day", "team_day", "team_month", "engine_hours"),
        "reason",
    )

    def __init__(
        self, *args: Any, current: Amounts | None = None, ceiling: Amounts | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._most: dict[str, Any] = {}
        if current is not None:
            most = [current] if ceiling is None else [current, ceiling]
            self._most = {name: max(getattr(row, name) for row in most) for name in self.AMOUNTS}
        for name, value in self._most.items():
            shown = value if name in self.HOURS else Decimal(value) / MICROCENTS_PER_DOLLAR
            self.fields[name].help_text = f"You may set at most {shown:.2f}."

    @classmethod
    def showing(cls, row: Amounts, **more: Any) -> "LimitsForm":
        shown = {name: getattr(row, name) for name in cls.AMOUNTS}
        dollars = {
            name: Decimal(value) / MICROCENTS_PER_DOLLAR for name, value in shown.items() if name not in cls.HOURS
        }
        return cls(initial={name: f"{value:.2f}" for name, value in (shown | dollars).items()}, **more)

    def clean(self) -> dict[str, Any]:
        for name, most in self._most.items():
            if name in self.cleaned_data and self.amounts()[name] > most:
                self.add_error(name, f"{self.fields[name].help_text} An Admin sets the ceiling.")
        return self.cleaned_data

    def amounts(self) -> dict[str, Any]:
        """Return what was entered, in microcents and hours."""
        return {
            name: value if name in self.HOURS else int(value * MICROCENTS_PER_DOLLAR)
            for name, value in self.cleaned_data.items()
            if name in self.AMOUNTS
        }
