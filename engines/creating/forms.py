"""What people fill in for a new engine."""

import uuid
from typing import Any

from django import forms
from django.core import signing
from django.db.models import QuerySet

from engines.forms import TOO_OLD
from engines.models import Engine
from portal.accounts.models import Team, User
from portal.vault.models import Connection

MINUTES = 15
SALT = "new-engine"


def issue(team: Team, user: User) -> str:
    """Return a ticket for one form: what it asks for is asked once, however often it is sent."""
    return signing.dumps([str(uuid.uuid4()), team.pk, user.pk], salt=SALT)


class NameForm(forms.Form):
    """A name that no engine of the team has: by it the new one is known when it shows up."""

    name = forms.CharField(max_length=100, label="Name", help_text="The engine's, as the fleet will show it.")
    connection = forms.ModelChoiceField(Connection.objects.none(), label="Engines API", empty_label=None)

    def __init__(self, *args: Any, team: Team, connections: QuerySet[Connection], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.team = team
        field: Any = self.fields["connection"]
        field.queryset = connections
        field.initial = only = connections.first()
        if only is not None and connections.count() == 1:
            field.widget = forms.HiddenInput()

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if not name.isprintable():
            raise forms.ValidationError("A name has printable characters only.")
        if Engine.objects.of(self.team).filter(name=name).exclude(status="deleted").exists():
            raise forms.ValidationError("An engine of the team has this name. Choose another.")
        return name


class HostForm(NameForm):
    """An engine on a host of one's own. `ticket` becomes the id that its key is asked for under."""

    reason = forms.CharField(
        max_length=500,
        label="Why?",
        help_text="Kept in the audit log, beside the key that is made for it.",
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "The new rack, ticket OPS-123"}),
    )
    ticket = forms.CharField(widget=forms.HiddenInput, max_length=500)

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.about = [self.team.pk, user.pk]

    def clean_ticket(self) -> uuid.UUID:
        try:
            id, *about = signing.loads(self.cleaned_data["ticket"], salt=SALT, max_age=MINUTES * 60)
        except signing.BadSignature as error:
            raise forms.ValidationError(TOO_OLD) from error
        if about != self.about:
            raise forms.ValidationError(TOO_OLD)
        return uuid.UUID(id)
