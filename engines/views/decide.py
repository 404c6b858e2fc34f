"""One dialog for every decision: what it does, why it is made, and the button that makes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django_htmx.http import HttpResponseClientRedirect

from engines.forms import ReasonForm
from engines.operations.moves import Decider
from portal.accounts.confirmed import must_confirm
from portal.audit.origin import Origin
from portal.http import PortalRequest


@dataclass(frozen=True)
class Decision:
    """What a dialog is about. It stands in the template `operations/_decide.html`."""

    title: str
    button: str
    place: str  # the page that it belongs to, and its address
    back: str
    icon: str = "check"
    about: str = ""
    consequences: Sequence[str] = ()
    why_not: str = ""  # why it cannot be made now
    weighs_much: bool = False  # made only by who has just proved who they are
    kept: Mapping[str, str] = field(default_factory=dict)  # hidden fields
    details: str = ""  # a template that shows what it is about; `facts` are for it
    facts: Mapping[str, Any] = field(default_factory=dict)


def deciding(
    request: PortalRequest, decision: Decision, form: ReasonForm, carry_out: Callable[[Decider], HttpResponse]
) -> HttpResponse:
    """GET shows the dialog. POST carries the decision out, or shows what was typed again with what is missing.

    Whether the decision is still open is for `carry_out` to find: it may have been made by another click of the same
    form.
    """
    if request.method != "POST":
        return _dialog(request, decision, form)
    if not form.is_valid():
        return _dialog(request, decision, form, status=422)
    if decision.weighs_much and must_confirm(request):
        return _dialog(request, decision, form, status=409, confirm_refused=True)
    return carry_out(Decider(request.user, Origin.of(request), form.cleaned_data["reason"]))


def on_cloud_time(**words: Any) -> Decision:
    return Decision(place="Cloud time", back=reverse("cloud-time"), **words)


def reason_form(request: PortalRequest) -> ReasonForm:
    return ReasonForm(request.POST if request.method == "POST" else None)


def _dialog(
    request: PortalRequest, decision: Decision, form: ReasonForm, status: int = 200, **extra: Any
) -> HttpResponse:
    confirm = decision.weighs_much and must_confirm(request)
    context = {"decision": decision, "form": form, "must_confirm": confirm, **decision.facts, **extra}
    template = "operations/_decide.html" if request.htmx else "operations/decide.html"
    return render(request, template, context, status=status)


def go(request: PortalRequest, url: str) -> HttpResponse:
    return HttpResponseClientRedirect(url) if request.htmx else redirect(url)
