"""What people fill in."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from types import MappingProxyType
from typing import Any, TypeVar

from django import forms
from django.conf import settings
from django.core import signing

from engines.api.redact import mask
from engines.bulk import Plan, Words
from engines.enums import MONEY, EngineStatus, State, Verb
from engines.models import Engine, Operation
from engines.naming import LONGEST
from engines.operations.behaviour import DEADLINE, INSIST, PATIENCE
from engines.operations.verbs import VERBS
from engines.seen import Facts, facts
from engines.tickets import BulkTicket, Ticket
from portal.accounts.models import User
from portal.vault.addresses import BadAddress, checked, is_listed

LEDGER = "Shown in the ledger, and kept in the audit log."
TOO_OLD = "This form is too old. Look at it again and confirm once more."
PATIENCES, PATIENT = {"24": "1 day", "72": "3 days", "168": "7 days", "720": "30 days"}, "168"
DEADLINES = {"1": "1 hour", "2": "2 hours", "6": "6 hours", "24": "1 day", "72": "3 days"}


INSISTS = "Send it again by itself if the engine forgets it"
INSISTING = "A process that is restarted forgets a drain, and takes tasks again. Unless this is ticked, you are asked."


def _reason(help_text: str, example: str, label: str = "Why?") -> forms.CharField:
    widget = forms.Textarea(attrs={"rows": 2, "placeholder": example})
    return forms.CharField(max_length=500, label=label, help_text=help_text, widget=widget)


class ReasonForm(forms.Form):
    """Why: of what is asked for, and of each decision about it."""

    reason = _reason("Shown beside what you decide, and kept in the audit log.", "Agreed with the team, ticket OPS-123")

    def clean_reason(self) -> str:
        return " ".join(str(self.cleaned_data["reason"]).split())


class EvidenceForm(ReasonForm):
    """How a person knows what became of money."""

    reason = _reason(
        "It is the evidence from then on, and kept in the audit log.",
        "Their transaction list, entry 4711",
        label="How do you know?",
    )


class WhyForm(ReasonForm):
    """Reason and deadline of what is asked for."""

    reason = _reason("Shown on the engine while it runs, and kept in the audit log.", "Kernel patch, ticket OPS-123")
    deadline = forms.ChoiceField(label="Tell me if it takes longer than", choices=list(DEADLINES.items()), initial="2")
    ticket = forms.CharField(widget=forms.HiddenInput)

    def clean_deadline(self) -> timedelta:
        return timedelta(hours=int(self.cleaned_data["deadline"]))


class ConfirmForm(WhyForm):
    """What one engine is asked for, and the ticket of the dialog it was entered in."""

    def __init__(self, *args: Any, verb: Verb, engine: Engine, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.about = (verb, engine, user)
        seen = self._seen()
        self.queues = bool(seen.get("behind"))
        self.waits = self.queues or (VERBS[verb].waits and seen["status"] == EngineStatus.DISCONNECTED)
        if self.waits:
            self.fields["deadline"].label = "Once it is sent, tell me if it takes longer than"

    def _seen(self) -> Facts:
        """Return what the dialog showed of the engine: what it is about, whatever has become of that since."""
        ticket = (self.data if self.is_bound else self.initial).get("ticket", "")
        with suppress(signing.BadSignature):
            return Ticket.read(ticket, *self.about).seen
        return facts(*self.about[:2])

    @property
    def engine(self) -> Engine:
        return self.about[1]

    def parameters(self) -> dict[str, Any]:
        """Return what the operation keeps beside reason and deadline, as JSON."""
        verb, engine, _ = self.about
        kept = VERBS[verb].parameters(engine, self.cleaned_data)
        if not self.waits:
            return kept
        patience = int(self.cleaned_data.get("patience") or PATIENT)
        return {**kept, PATIENCE: patience, DEADLINE: int(self.cleaned_data["deadline"] / timedelta(hours=1))}

    def clean_ticket(self) -> Ticket:
        try:
            return Ticket.read(self.cleaned_data["ticket"], *self.about)
        except signing.BadSignature as error:
            raise forms.ValidationError(TOO_OLD) from error


Form = TypeVar("Form", bound=ConfirmForm)
FORMS: dict[Verb, type[ConfirmForm]] = {}


def form_of(verb: Verb) -> type[ConfirmForm]:
    return FORMS.get(verb, ConfirmForm)


def fills_in(verb: Verb) -> Callable[[type[Form]], type[Form]]:
    """Say of a form that it is what is filled in for the verb: others are asked for reason and deadline alone."""

    def register(form: type[Form]) -> type[Form]:
        FORMS[verb] = form
        return form

    return register


class WaitingForm(ConfirmForm):
    """What needs a connected engine may have to wait for it: it is offline, or something else is done first."""

    patience = forms.ChoiceField(
        required=False,
        label="Wait for it for up to",
        choices=list(PATIENCES.items()),
        initial=PATIENT,
        help_text="If it has not come back by then, nothing is sent.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.waits:
            del self.fields["patience"]
        elif self.queues:
            self.fields["patience"].label = "Then wait for the engine for up to"


@fills_in(Verb.DRAIN)
class DrainForm(WaitingForm):
    insist = forms.BooleanField(required=False, label=INSISTS, help_text=INSISTING)
    field_order = ("reason", "patience", "deadline", INSIST)


TAG = r"v\d+\.\d+\.\d+[0-9A-Za-z.-]*"


@fills_in(Verb.UPDATE)
class UpdateForm(WaitingForm):
    """The version is typed, or chosen where `offer` knows what there is."""

    version = forms.RegexField(
        rf"^(stable|canary|{TAG})$",
        initial="stable",
        max_length=60,
        label="To which version?",
        help_text="stable, canary, or a tag such as v1.9.3, which also pins the engine to it.",
        error_messages={"invalid": "Enter stable, canary, or a tag such as v1.9.3."},
    )
    tag = forms.RegexField(
        rf"^{TAG}$",
        required=False,
        max_length=60,
        label="Or another version",
        help_text="A tag such as v1.9.3, in place of the choice above. It also pins the engine to it.",
        error_messages={"invalid": "Enter a tag such as v1.9.3."},
    )
    field_order = ("version", "tag", "reason", "patience", "deadline")

    def offer(self, releases: dict[str, str]) -> None:
        """Have it chosen from these: the newest version of each channel, as the API lists them."""
        heads = {name: version for name, version in releases.items() if name in ("stable", "canary")}
        tags = dict.fromkeys(version for version in heads.values() if re.fullmatch(TAG, version))
        runs = {self.engine.version: ", which it runs now"}
        choices = {name: f"{name}: {version}{runs.get(version, '')}" for name, version in heads.items()}
        choices |= {tag: f"{tag}{runs.get(tag, '')}, and pin it to that" for tag in tags}
        field = self.fields["version"]
        shown = self.data.get("version") if self.is_bound else self.get_initial_for_field(field, "version")
        if shown not in choices:  # nothing to choose from, or something else was typed before
            del self.fields["tag"]
            return
        field.widget = forms.Select(choices=list(choices.items()))
        field.help_text = f"It runs {self.engine.version or 'a version that the API does not name'} now."

    def clean(self) -> dict[str, Any]:
        """What is typed goes before what is chosen."""
        found = self.cleaned_data
        return found | ({"version": found["tag"]} if found.get("tag") else {})


@fills_in(Verb.RENAME)
class RenameForm(ConfirmForm):
    name = forms.CharField(max_length=LONGEST, label="New name")
    field_order = ("name", "reason", "deadline")

    def clean_name(self) -> str:
        if not str(self.cleaned_data["name"]).isprintable():
            raise forms.ValidationError("A name has printable characters only.")
        if self.cleaned_data["name"] == self.engine.name:
            raise forms.ValidationError("That is its name already.")
        return str(self.cleaned_data["name"])


@fills_in(Verb.DELETE)
class TypedForm(ConfirmForm):
    """What cannot be undone is asked for by typing the engine's name."""

    name = forms.CharField(max_length=200, label="Type the engine's name", help_text="Because this cannot be undone.")

    def clean_name(self) -> str:
        if self.cleaned_data["name"] != self.engine.name:
            raise forms.ValidationError(f"This is not its name. Type {self.engine.name}.")
        return str(self.cleaned_data["name"])


@fills_in(Verb.STOP)
class StopForm(TypedForm):
    """Typed where a stop costs something: a machine, what runs on an offline engine, a drain that did not end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offline = self.engine.status == EngineStatus.DISCONNECTED
        stuck = Operation.objects.of(self.engine.team).filter(engine=self.engine, state=State.STUCK)
        if not (self.engine.cloud or (offline and self.engine.workers_busy) or stuck.exists()):
            del self.fields["name"]

    def parameters(self) -> dict[str, Any]:
        return {"online": self.cleaned_data["ticket"].seen["status"] != EngineStatus.DISCONNECTED}


@fills_in(Verb.RESTART)
class RestartForm(ConfirmForm):
    """It keeps what its dialog showed: sent twice it says the same, though the engine is another process by then."""

    def parameters(self) -> dict[str, Any]:
        seen = self.cleaned_data["ticket"].seen
        return {"boot_id": seen.get("process", ""), "online": seen["status"] != EngineStatus.DISCONNECTED}


def agreed(plan: Plan) -> str:
    """Say what a person agrees to who goes on against the guard: in turns, that is no number at once."""
    if not plan.has_turns:
        return "Take that many at once"
    if plan.only_small:
        return "Take engines of so small a pool"
    small = "engines of so small a pool, or " if plan.even_in_turns else ""
    return f"Take {small}that many at once, not in turns"


class BulkForm(WhyForm):
    """What many engines are asked for, and the ticket of the plan that was shown."""

    version = forms.RegexField(
        rf"^(stable|canary|{TAG})$",
        initial="stable",
        max_length=60,
        label="To which version?",
        help_text="stable, canary, or a tag such as v1.9.3, which also pins the engines to it.",
        error_messages={"invalid": "Enter stable, canary, or a tag such as v1.9.3."},
    )
    pace = forms.ChoiceField(
        label="How many at once?",
        choices=[
            ("turns", "In turns, as the guard allows"),
            ("all", "All of them at once"),
        ],
        initial="turns",
        help_text="In turns, the next is asked when one is back.",
    )
    insist = forms.BooleanField(required=False, label=INSISTS, help_text=INSISTING)
    typed = forms.CharField(max_length=60, label="Type what you are about to do")
    despite = forms.BooleanField(required=False)
    field_order = ("version", "pace", "reason", "deadline", INSIST, "typed", "despite")

    def __init__(self, *args: Any, plan: Plan, team_id: int, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.plan = plan
        self.about = (plan.verb, team_id, user)
        self.phrase = f"{plan.verb} {len(plan.will)}"
        self.fields["typed"].help_text = f"“{self.phrase}”, because this cannot be undone."
        if plan.verb in MONEY:
            self.fields["reason"].help_text = LEDGER
        self.fields["despite"].label = agreed(plan)
        wanted = {
            **{name: name in VERBS[plan.verb].asks for name in ("version", INSIST)},
            "pace": plan.has_turns,
            "typed": VERBS[plan.verb].is_final,
            "despite": bool(plan.breaches),
            "deadline": plan.verb not in MONEY,
        }
        for name in [name for name, is_wanted in wanted.items() if not is_wanted]:
            del self.fields[name]

    def clean_typed(self) -> str:
        if " ".join(str(self.cleaned_data["typed"]).split()).lower() != self.phrase:
            raise forms.ValidationError(f"Type “{self.phrase}”.")
        return self.phrase

    def clean(self) -> dict[str, Any]:
        """What the guard objects to is said, or not done."""
        found = self.cleaned_data
        objected = self.plan.even_in_turns if found.get("pace") == "turns" else self.plan.breaches
        if objected and not found.get("despite"):
            said = "engines of so small a pool may go" if found.get("pace") == "turns" else "this many may go at once"
            self.add_error("despite", f"Say that {said}, or take only as many as the guard allows.")
        return found

    def clean_ticket(self) -> BulkTicket:
        try:
            return BulkTicket.read(self.cleaned_data["ticket"], *self.about)
        except signing.BadSignature as error:
            raise forms.ValidationError(TOO_OLD) from error

    @property
    def words(self) -> Words:
        """What was said, once it is valid."""
        found = self.cleaned_data
        patience = found.get("deadline") or timedelta(0)
        return Words(found["reason"], patience, found.get("pace") == "turns", found)


class ConnectionForm(forms.Form):
    """An Engines API's address. `current` is the one that the connection has already, which may stay."""

    name = forms.CharField(max_length=100, label="Name", help_text="How the team calls this API.")
    address = forms.CharField(max_length=300, label="Address", widget=forms.TextInput(attrs={"inputmode": "url"}))

    def __init__(self, *args: Any, current: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._current = current
        hosts = [host for host in settings.CONNECTION_HOSTS if host != "*"]
        allowed = "Any public https address" if "*" in settings.CONNECTION_HOSTS else ", ".join(hosts) or "none"
        self.fields["address"].help_text = f"Allowed here: {allowed}. CONNECTION_HOSTS decides that."

    def clean_address(self) -> str:
        try:
            url = checked(self.cleaned_data["address"])
        except BadAddress as error:
            raise forms.ValidationError(str(error)) from error
        if url != self._current and not is_listed(url):
            raise forms.ValidationError("Keys may not be sent to this host. Whoever runs this portal can allow it.")
        return url


class KeyForm(forms.Form):
    """A person's own API key. Write-only: no page ever shows it again. `answer` is the API's, if it refused it."""

    answer: Mapping[str, Any] = MappingProxyType({})
    label = forms.CharField(max_length=100, label="Name", help_text="How you and the audit log call this key.")
    secret = forms.CharField(
        max_length=500,
        label="API key",
        strip=True,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "placeholder": "inf_…", "spellcheck": "false"}),
    )

    def clean_secret(self) -> str:
        value = str(self.cleaned_data["secret"])
        if not value.isascii() or not value.isprintable() or " " in value:
            raise forms.ValidationError("An API key has no spaces or special characters. Copy it once more, whole.")
        return value

    def clean(self) -> dict[str, Any]:
        """Refuse a key in the name's place: names are shown, and kept in the audit log."""
        label, secret = self.cleaned_data.get("label", ""), self.cleaned_data.get("secret", "")
        if mask(label) != label or (secret and secret in label):
            data = self.data.copy()  # type: ignore[attr-defined]  # a QueryDict
            data[self.add_prefix("label")] = ""
            self.data = data
            self.add_error("label", "This looks like a key, and names are shown. Enter a name of your own.")
        return self.cleaned_data
