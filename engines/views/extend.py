"""The extend dialog: what so much time costs, exactly as it will be asked; confirmed, it becomes an operation."""

import logging
import uuid
from datetime import datetime, tzinfo
from typing import Any

from django.contrib import messages
from django.core import signing
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_http_methods
from django_htmx.http import HttpResponseClientRedirect

from engines.access import client_for, engine_for, key_of, note_refusal, why_not
from engines.api.advice import reading_went_wrong
from engines.api.errors import ApiError, answer_of
from engines.enums import OPEN, Verb
from engines.models import Engine, Operation, Proposal
from engines.money import amounts, approve, choices, limits
from engines.money.amounts import PaidTime
from engines.money.buy import buy
from engines.money.forms import PurchaseForm
from engines.money.order import Order
from engines.money.quote import Quote
from engines.operations.request import Busy, Changed
from engines.seen import Facts, differences, facts
from engines.snapshots import STALE_AFTER, seen_at
from portal import clock
from portal.accounts.confirmed import must_confirm
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.http import PortalRequest, vary_on_htmx
from portal.vault.keys import Sealed
from portal.vault.models import StoredKey

log = logging.getLogger(__name__)

BALANCE_SECONDS = 2.0
BALANCE_SCOPES = {"billing:read", "*"}
UNUSABLE = "The form was altered, is older than 15 minutes, or was made for something else. These are fresh values."
SENT_BEFORE = "This form was sent before: this is what became of it."


@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_htmx
def extend(request: PortalRequest, uid: str) -> HttpResponse:
    engine = engine_for(request, uid)
    if request.method != "POST":
        return dialog(request, engine, PurchaseForm(initial={"reason": request.GET.get("reason", "")}))
    form = PurchaseForm(request.POST)
    try:
        quote, seen = asked_for(request, engine)
    except (signing.BadSignature, ValueError, TypeError, KeyError):
        _refused(request, engine, UNUSABLE)
        return dialog(request, engine, form, status=422, problem=UNUSABLE)
    if not form.is_valid():
        return dialog(request, engine, form, status=422, confirmed=quote)
    refused, changed = refusal(request, engine), differences(seen, facts(Verb.EXTEND, engine), choices.zone_of(request))
    # Asked after those: what a second click of the same form has just recorded is no objection to it.
    if not _sent_before(request, quote):
        if refused:
            return dialog(request, engine, form, status=409, why_not=refused)
        if changed:
            return dialog(request, engine, form, status=409, confirmed=quote, differences=changed)
        if limits.needs_approval(request.team, quote.cost) and must_confirm(request):
            return dialog(request, engine, form, status=409, confirmed=quote, confirm_refused=True)
    return confirm(request, engine, form, quote)


def asked_for(request: PortalRequest, engine: Engine) -> tuple[Quote, Facts]:
    """Return what the form asks for, and what its dialog showed.

    One that is too old is believed only of what it has asked for already: then it leads there, and buys nothing.
    """
    signed = request.POST.get("quote", "")
    try:
        return Quote.read(signed, engine, request.user)
    except signing.SignatureExpired:
        quote, seen = Quote.read(signed, engine, request.user, max_age=None)
        if not _sent_before(request, quote):
            raise
        return quote, seen


def confirm(request: PortalRequest, engine: Engine, form: PurchaseForm, quote: Quote) -> HttpResponse:
    """Record the purchase, or ask a second person for it. The same form sent twice leads to the same page."""
    key, reason = key_of(request, engine.connection), form.cleaned_data["reason"]
    if key is None:
        return dialog(request, engine, form, status=409, why_not=refusal(request, engine))
    asked: dict[str, Any] = {
        "engine": engine,
        "user": request.user,
        "key": key,
        "origin": Origin.of(request),
        "now": clock.now(),
    }
    sent_before = _sent_before(request, quote)
    try:
        if approve.is_for_two(quote, request.team):
            say_proposed(request, approve.propose(quote, reason, **asked), quote)
            return _go(request, reverse("cloud-time"))
        operation = buy(quote, reason, **asked)
    except (limits.Frozen, limits.OverLimit) as refused:
        _refused(request, engine, str(refused))
        return dialog(request, engine, form, status=409, confirmed=quote, why_not=str(refused))
    except Busy as busy:
        return dialog(request, engine, form, status=409, confirmed=quote, why_not=str(busy))
    except Changed:
        _refused(request, engine, "This form was sent before with other words.")
        return dialog(request, engine, form, status=422, sent_before=_made(request, quote))
    if sent_before:
        messages.info(request, SENT_BEFORE)
    else:
        messages.success(request, f"{amounts.dollars(quote.cost)} for {engine.name} is on its way.")
    return _go(request, reverse("operation", args=[operation.pk]))


def say_proposed(request: PortalRequest, proposal: Proposal, quote: Quote | Order) -> None:
    if over := approve.over(proposal, clock.now()):  # an old form, sent again
        messages.warning(request, f"{proposal}: {over} Nothing was bought.")
    else:
        messages.success(request, f"{amounts.dollars(quote.cost)} needs a second person: ask somebody to approve it.")


def _go(request: PortalRequest, url: str) -> HttpResponse:
    return HttpResponseClientRedirect(url) if request.htmx else redirect(url)


def _sent_before(request: PortalRequest, quote: Quote) -> bool:
    return bool(_made(request, quote))


def _made(request: PortalRequest, quote: Quote) -> str:
    """Return the address of what the form has asked for already; "" if nothing."""
    if Operation.objects.of(request.team).filter(pk=quote.id).exists():
        return reverse("operation", args=[quote.id])
    return reverse("cloud-time") if Proposal.objects.of(request.team).filter(pk=quote.id).exists() else ""


def _refused(request: PortalRequest, engine: Engine, why: str) -> None:
    record(
        team=request.team,
        actor=request.user,
        action="cloudtime.refused",
        target=engine,
        origin=Origin.of(request),
        outcome="refused",
        note=why,
    )


def refusal(request: PortalRequest, engine: Engine) -> str:
    opened = Operation.objects.of(request.team).filter(engine=engine, state__in=OPEN)
    key = key_of(request, engine.connection)
    refused = why_not(Verb.EXTEND, engine, role=request.membership.role, key=key, opened=opened)
    freeze = limits.freeze_of(request.team)
    return refused or (str(freeze) if freeze else "")


def over(request: PortalRequest, engine: Engine, quote: Quote | None) -> str:
    """Say which limit it is over; "" if none. What counts is asked again when it is confirmed, and when it is sent."""
    if quote is None:
        return ""
    try:
        limits.check(request.team, request.user.pk, engine, quote.hours, quote.cost, clock.now())
    except (limits.OverLimit, limits.Frozen) as refused:
        return str(refused)
    return ""


def dialog(
    request: PortalRequest,
    engine: Engine,
    form: PurchaseForm,
    status: int = 200,
    confirmed: Quote | None = None,
    **extra: Any,
) -> HttpResponse:
    paid, zone, now = amounts.paid_time(engine), choices.zone_of(request), clock.now()
    quote, error = chosen(request, paid, now, confirmed)
    seen = seen_at(engine, engine.connection)
    if quote:
        form = with_quote(form, quote.sign(engine, request.user))
    approval = quote is not None and limits.needs_approval(request.team, quote.cost)
    context = {
        "engine": engine,
        "form": form,
        "paid": paid,
        "quote": quote,
        "error": error,
        "asked": request.GET,
        "zone": zone,
        "until": _typed(request, quote, zone),
        "choices": choices.choices(paid, now, zone) if paid else [],
        "chosen": request.GET.get("to", ""),
        "seen_at": seen,
        "is_stale": now - seen > STALE_AFTER,
        "limits": limits.limits_of(request.team),
        "approval": approval,
        "must_confirm": approval and must_confirm(request),
        "why_not": "" if request.method == "POST" else refusal(request, engine) or over(request, engine, quote),
        **money(key_of(request, engine.connection), paid, quote),
        **extra,
    }
    template = "cloud_time/_extend_dialog.html" if request.htmx else "cloud_time/extend.html"
    return render(request, template, context, status=status)


def _typed(request: PortalRequest, quote: Quote | None, zone: tzinfo) -> str:
    """Return what the field of date and time holds: what is shown, else what was typed."""
    return f"{quote.target.astimezone(zone):%Y-%m-%dT%H:%M}" if quote else request.GET.get("until", "")


def with_quote(form: PurchaseForm, signed: str) -> PurchaseForm:
    """Return the form with what is shown now, and the person's words as they were."""
    if not form.is_bound:
        form.initial["quote"] = signed
        return form
    data = form.data.copy()  # type: ignore[attr-defined]  # a QueryDict
    data["quote"] = signed
    return PurchaseForm(data)


def chosen(
    request: PortalRequest, paid: PaidTime | None, now: datetime, confirmed: Quote | None
) -> tuple[Quote | None, str]:
    """Return what the address asks for, else the first preset that buys anything, and what is wrong with the ask."""
    if paid is None:
        return None, ""
    retry_of = confirmed.retry_of if confirmed else earlier(request.GET.get("retry_of", ""))
    try:
        if confirmed and (confirmed.threshold, confirmed.price) == (paid.threshold, paid.price):
            return confirmed, ""
        return Quote.until(confirmed.target if confirmed else wanted(request, paid, now), paid, retry_of), ""
    except (ValueError, OverflowError) as error:
        return None, str(error)


def earlier(text: str) -> str:
    """Return the id of the operation that is tried again, or "" for what is no id."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return ""


def wanted(request: PortalRequest, paid: PaidTime, now: datetime) -> datetime:
    """Read `to`, `hours` or `until` off the address. Raises ValueError with words for people."""
    zone, name = choices.zone_of(request), request.GET.get("to", "")
    if name in choices.LABELS:
        return choices.target(name, paid, now, zone)
    if hours := request.GET.get("hours"):
        return amounts.after(paid.threshold, amounts.hours_of(hours))
    if until := request.GET.get("until"):
        found = parse_datetime(until)
        if found is None or not 2000 < found.year < 9000:
            raise ValueError("Enter a date and a time.")
        return found if found.tzinfo else found.replace(tzinfo=zone)
    names = [each.name for each in choices.choices(paid, now, zone) if each.quote]
    return choices.target(next(iter(names), "day"), paid, now, zone)


def money(key: StoredKey | None, paid: PaidTime | None, quote: Quote | None) -> dict[str, Any]:
    """Return the balance before and after, where there is something to buy."""
    return {} if paid is None else balance(key, quote.cost if quote else 0)


def balance(key: StoredKey | None, cost: int) -> dict[str, Any]:
    """Return the balance before and after, where the API says and the person's key may know; else what went wrong."""
    if key is None or not BALANCE_SCOPES & set(key.scopes):
        return {}
    try:
        with client_for(key, timeout=BALANCE_SECONDS) as client:
            found = client.balance()
    except (ApiError, Sealed) as error:
        note_refusal(key, error)
        log.info("no balance from %s: %s", key.connection.base_url, error)
        has_none = isinstance(error, ApiError) and error.status in (404, 405)
        return {} if has_none else {"no_balance": reading_went_wrong(answer_of(error))}
    if found is None:
        return {}
    return {"balance": found, "left": found - cost, "is_short": found < cost}
