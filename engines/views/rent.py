"""New engines in the cloud: what can be rented at which price, and the order of exactly what was shown."""

import logging
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core import signing
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from engines.access import WRITES, client_for, key_of, note_refusal
from engines.api.advice import WentWrong, reading_went_wrong
from engines.api.errors import ApiError, answer_of
from engines.creating.forms import MachineForm, OrderForm
from engines.models import Batch, Operation, Proposal
from engines.money import amounts, approve, limits, many
from engines.money.buy import OrderedAgain, earlier_order, next_try, rent
from engines.money.offers import Offer, offers
from engines.money.order import MACHINES, Order, Orders
from engines.operations.request import Changed
from engines.views.extend import SENT_BEFORE, UNUSABLE, balance, say_proposed
from portal import clock
from portal.accounts.confirmed import must_confirm
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.http import PortalRequest
from portal.query import without
from portal.vault.keys import Sealed
from portal.vault.models import Connection, StoredKey

log = logging.getLogger(__name__)

SECONDS = 10.0
MOST = 200  # rows of the table
COLUMNS = {
    "gpu": ("Machine", lambda offer: (offer.gpu.lower(), offer.gpus, offer.instance_type)),
    "vram": ("GPU memory", lambda offer: offer.vram * offer.gpus),
    "memory": ("Memory", lambda offer: offer.memory),
    "region": ("Where", lambda offer: (offer.cloud, offer.region)),
    "price": ("An hour", lambda offer: offer.price),
}


@require_safe
def types(request: PortalRequest) -> HttpResponse:
    """What can be rented, filtered and sorted as the address says."""
    connection, key = place(request)
    found, wrong = on_offer(key)
    shown = sorted(filtered(found, request), key=lambda offer: (not offer.is_available, offer.price, offer.id))
    sort = request.GET.get("sort", "")
    if column := COLUMNS.get(sort.removeprefix("-")):
        shown.sort(key=column[1], reverse=sort.startswith("-"))
    context = {
        "connection": connection,
        "connections": Connection.objects.of(request.team).order_by("pk"),
        "wrong": wrong,
        "is_empty": not found,
        "offers": [{"offer": offer, "url": link(connection, offer)} for offer in shown[:MOST]],
        "left_out": max(len(shown) - MOST, 0),
        "columns": columns(request, sort),
        "gpus": sorted({offer.gpu for offer in found if offer.gpu}),
        "places": sorted({f"{offer.cloud}/{offer.region}" for offer in found}),
        "asked": request.GET,
    }
    return render(request, "creating/types.html", context)


def place(request: PortalRequest) -> tuple[Connection | None, StoredKey | None]:
    """Return the connection that the request names, else the team's first, and the person's key to it."""
    rows = Connection.objects.of(request.team).order_by("pk")
    asked = (request.POST if request.method == "POST" else request.GET).get("connection", "")
    found = rows.filter(pk=asked).first() if asked.isdecimal() and len(asked) < 10 else rows.first()
    return found, key_of(request, found) if found else None


def on_offer(key: StoredKey | None) -> tuple[list[Offer], WentWrong | None]:
    """Ask the API what can be rented. Return that, and what went wrong."""
    if key is None:
        return [], WentWrong("You have no key for this API yet.", "Add one on the Keys page.", "")
    try:
        with client_for(key, timeout=SECONDS) as client:
            return offers(client.instance_types()), None
    except (ApiError, Sealed) as error:
        note_refusal(key, error)
        log.info("no machines from %s: %s", key.connection.base_url, error)
        return [], reading_went_wrong(answer_of(error))


def filtered(found: list[Offer], request: PortalRequest) -> list[Offer]:
    gpu, where = request.GET.get("gpu", ""), request.GET.get("where", "")
    return [
        offer
        for offer in found
        if gpu in ("", offer.gpu)
        and where in ("", f"{offer.cloud}/{offer.region}")
        and (offer.is_available or not request.GET.get("available"))
    ]


def columns(request: PortalRequest, sort: str) -> list[dict[str, str]]:
    """Return the sortable headers; a second click turns the order."""
    shown = []
    for name, (label, _) in COLUMNS.items():
        direction = {name: "asc", f"-{name}": "desc"}.get(sort, "")
        url = without(request.GET, sort=f"-{name}" if direction == "asc" else name)
        shown.append({"label": label, "url": url, "direction": direction})
    return shown


def asked_again(connection_id: int | None, order: Order, **more: Any) -> str:
    """Return the address that asks for such a machine as this order was for."""
    asked = {"connection": connection_id, "offer": order.offer, "name": order.given_name, "hours": order.hours}
    return f"{reverse('engine-create')}?{urlencode(asked | more, doseq=True)}"


def link(connection: Connection | None, offer: Offer) -> str:
    asked = {"connection": connection.pk if connection else "", "offer": offer.id}
    return f"{reverse('engine-create')}?{urlencode(asked)}"


@require_http_methods(["GET", "HEAD", "POST"])
def order(request: PortalRequest) -> HttpResponse:
    """What the machine costs for so many hours; confirmed, it is ordered."""
    connection, key = place(request)
    if connection is None or key is None:
        return redirect("engine-types")
    if request.method != "POST":
        return asking(request, key)
    form = OrderForm(request.POST)
    try:
        wanted = ordered(request, connection)
    except (signing.BadSignature, ValueError, TypeError, KeyError):
        refused(request, connection, UNUSABLE)
        messages.warning(
            request, "Nothing was ordered: the form was altered, or is older than 15 minutes. Choose again."
        )
        return redirect(f"{reverse('engine-types')}?connection={connection.pk}")
    if not form.is_valid():
        return page(request, key, wanted, form, status=422)
    if not made(request, wanted) and (problem := why_not(request, key)):
        return page(request, key, wanted, form, status=409, why_not=problem)
    if not made(request, wanted) and must_confirm(request):
        return page(request, key, wanted, form, status=409, confirm_refused=True)
    return confirm(request, key, wanted, form)


def ordered(request: PortalRequest, connection: Connection) -> Orders:
    """Return what the form asks for.

    One that is too old is believed only of what it has asked for already: then it leads there, and orders nothing.
    """
    signed = request.POST.get("order", "")
    try:
        return Orders.read(signed, connection, request.user)
    except signing.SignatureExpired:
        wanted = Orders.read(signed, connection, request.user, max_age=None)
        if not made(request, wanted):
            raise
        return wanted


def asking(request: PortalRequest, key: StoredKey) -> HttpResponse:
    """Ask for name and hours, and show the cost once both are there."""
    found, wrong = on_offer(key)
    offer = next((offer for offer in found if offer.id == request.GET.get("offer")), None)
    if offer is None or not offer.is_available:
        messages.warning(request, wrong.words if wrong else "That machine is not on offer now. Choose another.")
        return redirect(f"{reverse('engine-types')}?connection={key.connection_id}")
    machine = MachineForm(None if is_to_change(request) else request.GET, initial=request.GET.dict(), team=request.team)
    asked = request.GET.getlist("retry_of")[:MACHINES]
    earlier = [each for each in (earlier_order(pk, request.team) for pk in asked) if each]
    if other := next(filter(None, map(next_try, earlier)), None):
        messages.warning(request, "It was ordered again already: this is that order. Nothing was ordered now.")
        return redirect("operation", pk=other.pk)
    if not machine.is_bound or not machine.is_valid():
        said = {"reason": request.GET.get("reason", "")}
        context = {"connection": key.connection, "offer": offer, "form": machine, "earlier": earlier, **said}
        return render(request, "creating/machine.html", context)
    wanted = orders_of(offer, machine.cleaned_data, [str(each.pk) for each in earlier])
    reason = request.GET.get("reason") or (earlier[0].operation.reason if earlier else "")
    said = {"order": wanted.sign(key.connection, request.user), "reason": reason}
    return page(request, key, wanted, OrderForm(initial=said))


def orders_of(offer: Offer, said: dict[str, Any], tries: list[str]) -> Orders:
    """Return orders as they were filled in. More machines than failed, or fewer, are no second try of those."""
    facts = {
        name: getattr(offer, name) for name in ("cloud", "region", "instance_type", "rental_type", "hardware", "price")
    }
    number = said["number"]
    tries = tries if len(tries) == number else []
    retry_of = tries[0] if tries and number == 1 else ""
    one = Order.new(said["name"], hours=said["hours"], retry_of=retry_of, **facts)
    return Orders(one, number, tuple(tries) if number > 1 else ())


def is_to_change(request: PortalRequest) -> bool:
    """Say whether name and hours are still to be filled in, or to be changed, rather than what they cost shown."""
    return "name" not in request.GET or "change" in request.GET


def back(key: StoredKey, wanted: Orders, form: OrderForm) -> str:
    """Return the address where what was asked for can be changed: all that was typed is there."""
    tries = wanted.tries or wanted.one.retry_of
    kept = {"number": wanted.number, "retry_of": tries, "reason": form["reason"].value() or ""}
    return asked_again(key.connection_id, wanted.one, **kept, change=1)


def page(
    request: PortalRequest, key: StoredKey, wanted: Orders, form: OrderForm, status: int = 200, **extra: Any
) -> HttpResponse:
    context = {
        "connection": key.connection,
        "orders": wanted,
        "order": wanted.one,
        "form": form,
        "hourly": wanted.one.price * amounts.MICROCENTS_PER_CENT,
        "until": amounts.after(clock.now(), wanted.one.hours),
        "limits": limits.limits_of(request.team),
        "approval": limits.needs_approval(request.team, wanted.cost),
        "why_not": why_not(request, key) or over(request, wanted),
        "must_confirm": must_confirm(request),
        "back": back(key, wanted, form),
        **balance(key, wanted.cost),
        **extra,
    }
    closed = context["why_not"] or context.get("sent_before")  # the form can not be sent again
    return render(request, "creating/order.html", context | {"closed": closed}, status=status)


def why_not(request: PortalRequest, key: StoredKey) -> str:
    """Say why this person cannot order now; "" if they can."""
    if key.last_error:
        return "Your key is refused by the API. Replace it on the Keys page."
    if not set(key.scopes) & set(WRITES):
        return f"Your key “{key.label}” lacks the scope engines:write. Replace it on the Keys page."
    freeze = limits.freeze_of(request.team)
    return str(freeze) if freeze else ""


def over(request: PortalRequest, wanted: Orders) -> str:
    """Say which limit it is over; "" if none. What counts is asked again when it is confirmed, and when it is sent."""
    try:
        asked = (request.team, request.user.pk, None, wanted.one.hours, wanted.cost, clock.now())
        limits.check(*asked, without=wanted.id)
    except (limits.OverLimit, limits.Frozen) as refusal:
        return str(refusal)
    return ""


def made(request: PortalRequest, wanted: Orders) -> str:
    """Return the address of what the form has asked for already; "" if nothing."""
    for kind, page in ((Operation, "operation"), (Batch, "batch")):
        if kind.objects.of(request.team).filter(pk=wanted.id).exists():
            return reverse(page, args=[wanted.id])
    return reverse("cloud-time") if Proposal.objects.of(request.team).filter(pk=wanted.id).exists() else ""


def confirm(request: PortalRequest, key: StoredKey, wanted: Orders, form: OrderForm) -> HttpResponse:
    """Record the orders, or ask a second person for them. The same form sent twice leads to the same page."""
    asked: dict[str, Any] = {"user": request.user, "key": key, "origin": Origin.of(request), "now": clock.now()}
    reason, waits = form.cleaned_data["reason"], limits.needs_approval(request.team, wanted.cost)
    sent_before = made(request, wanted)
    try:
        if wanted.number > 1:
            to = redirect("batch", pk=many.rent_all(wanted, reason, **asked).pk)
        elif approve.is_for_two(wanted.one, request.team):
            say_proposed(request, approve.propose(wanted.one, reason, engine=None, **asked), wanted.one)
            return redirect("cloud-time")
        else:
            to = redirect("operation", pk=rent(wanted.one, reason, **asked).pk)
    except (limits.Frozen, limits.OverLimit, OrderedAgain) as refusal:
        refused(request, key.connection, str(refusal))
        return page(request, key, wanted, form, status=409, why_not=str(refusal))
    except Changed:
        refused(request, key.connection, "This form was sent before with other words.")
        return page(request, key, wanted, form, status=422, why_not="", sent_before=made(request, wanted))
    if sent_before:
        messages.info(request, SENT_BEFORE)
    elif waits:
        messages.success(request, f"{amounts.dollars(wanted.cost)} needs a second person: ask somebody to approve it.")
    else:
        messages.success(request, f"{wanted} {'is' if wanted.number == 1 else 'are'} being ordered.")
    return to


def refused(request: PortalRequest, connection: Connection, why: str) -> None:
    record(
        team=request.team,
        actor=request.user,
        action="cloudtime.refused",
        target=connection,
        origin=Origin.of(request),
        outcome="refused",
        note=why,
    )
