"""What people fill in for a new engine."""

import uuid
from decimal import Decimal
from typing import Any

from django import forms
from django.core import signing
from django.db.models import QuerySet

from engines.forms import LEDGER, TOO_OLD
from engines.models import Engine
from engines.money.amounts import STEP
from engines.money.order import LEAST, MACHINES, MARK, MOST
from portal.accounts.models import Team, User
from portal.vault.models import Connection

MINUTES = 15
SALT = "new-engine"
LONGEST = 80  # of a machine's name, without its mark


def issue(team: Team, user: User) -> str:
    """Return a ticket for one form: what it asks for is asked once, however often it is sent."""
    return signing.dumps([str(uuid.uuid4()), team.pk, user.pk], salt=SALT)


class NameForm(forms.Form):
    """A name that no engine of the team has: by it the new one is known when it shows up."""

    name = forms.CharField(max_length=100, label="Name", help_text="The engine's, as the fleet will show it.")

    def __init__(self, *args: Any, team: Team, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.team = team

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if not name.isprintable():
            raise forms.ValidationError("A name has printable characters only.")
        if Engine.objects.of(self.team).filter(name=name).exclude(status="deleted").exists():
            raise forms.ValidationError("An engine of the team has this name. Choose another.")
        return name


class HostForm(NameForm):
    """An engine on a host of one's own. `ticket` becomes the id that its key is asked for under."""

    connection = forms.ModelChoiceField(Connection.objects.none(), label="Engines API", empty_label=None)
    reason = forms.CharField(
        max_length=500,
        label="Why?",
        help_text="Kept in the audit log, beside the key that is made for it.",
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "The new rack, ticket OPS-123"}),
    )
    ticket = forms.CharField(widget=forms.HiddenInput, max_length=500)

    def __init__(self, *args: Any, user: User, connections: QuerySet[Connection], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.about = [self.team.pk, user.pk]
        field: Any = self.fields["connection"]
        field.queryset = connections
        field.initial = only = connections.first()
        if only is not None and connections.count() == 1:
            field.widget = forms.HiddenInput()

    def clean_ticket(self) -> uuid.UUID:
        try:
            id, *about = signing.loads(self.cleaned_data["ticket"], salt=SALT, max_age=MINUTES * 60)
        except signing.BadSignature as error:
            raise forms.ValidationError(TOO_OLD) from error
        if about != self.about:
            raise forms.ValidationError(TOO_OLD)
        return uuid.UUID(id)


class MachineForm(NameForm):
    """A machine's name and its first hours."""

    hours = forms.DecimalField(
        label="Hours",
        min_value=LEAST,
        max_value=MOST,
        decimal_places=2,
        initial=8,
        help_text="Paid at once. Then the machine is given back, unless it was extended.",
    )
    number = forms.IntegerField(
        label="How many",
        min_value=1,
        max_value=MACHINES,
        initial=1,
        required=False,
        help_text="Each is ordered on its own. Of several, the names are numbered.",
    )
    field_order = ("name", "number", "hours")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[
            "name"
        ].help_text = f"The fleet shows it with {MARK} letters behind it, which tell it from any other."

    def clean_name(self) -> str:
        name = super().clean_name()
        if len(name) > LONGEST:
            raise forms.ValidationError(f"At most {LONGEST} characters.")
        return name

    def clean_number(self) -> int:
        return self.cleaned_data["number"] or 1

    def clean_hours(self) -> Decimal:
        return Decimal(self.cleaned_data["hours"]).quantize(STEP)


class OrderForm(forms.Form):
    """Why, and what the page showed."""

    reason = forms.CharField(
        max_length=500,
        label="Why?",
        help_text=LEDGER,
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "More room for client X, ticket OPS-123"}),
    )
    order = forms.CharField(widget=forms.HiddenInput, max_length=3000)
