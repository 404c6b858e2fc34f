"""A machine of the cloud with an engine on it: what is compared before it is ordered, and what readings prove after.

The order is known by the engine's name, whose end is a mark of its own; where the API names the engine, by its id.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from engines import snapshots, wire
from engines.api.client import EnginesClient
from engines.enums import OPEN, EngineStatus, State
from engines.models import Engine, Operation
from engines.money import amounts, limits
from engines.money.amounts import PaidTime
from engines.money.models import Evidence, Outcome
from engines.money.offers import Offer, offers
from engines.money.order import Order
from engines.money.preflight import unsent
from engines.money.record import End

EVERY = timedelta(seconds=5)  # between two readings while it is on its way
LONGEST = timedelta(minutes=30)  # until an engine that has not come is a person's business
GONE = ("deleting", "deleted")

# Asks the API's own books what was paid for it, in microcents; None if it keeps none.
Books = Callable[[], int | None]


def order_of(operation: Operation) -> Order:
    return Order.of(operation.pk, operation.parameters)


def preflight(operation: Operation, client: EnginesClient, now: datetime) -> PaidTime | End:
    """Compare what was confirmed with what is on offer now. Return from when on it is paid, or the end."""
    order = order_of(operation)
    namesake = next(iter(client.named(order.name)), None)
    if namesake and operation.attempts:  # what was told to be asked again had been carried out
        return found(operation, namesake, now)
    offer = offered(client, order)
    if offer is None or not offer.is_available:
        note = f"{order.cloud} has no {order.instance_type} in {order.region} any more. {unsent(operation)}"
        return End(State.REFUSED, Outcome.NOT_SENT, note)
    if offer.price != order.price:
        was, price = (amounts.dollars(cents * amounts.MICROCENTS_PER_CENT) for cents in (order.price, offer.price))
        note = f"The price was {was} an hour when you confirmed; now it is {price}. {unsent(operation)} Order again."
        return End(State.NEEDS_RECONFIRM, Outcome.OUTDATED, note)
    if namesake:
        note = f"There is an engine called {order.name} already. {unsent(operation)} Order again."
        return End(State.NEEDS_RECONFIRM, Outcome.OUTDATED, note)
    try:
        asked = (operation.team, operation.requested_by_id, None, order.hours, order.cost, now)
        limits.check(*asked, without=operation.pk)
    except (limits.Frozen, limits.OverLimit) as refused:
        return End(State.CANCELLED, Outcome.NOT_SENT, f"{refused} {unsent(operation)}")
    return PaidTime(now, order.price)


def offered(client: EnginesClient, order: Order) -> Offer | None:
    wanted = (order.cloud, order.instance_type, order.region, order.rental_type)
    for offer in offers(client.instance_types()):
        if (offer.cloud, offer.instance_type, offer.region, offer.rental_type) == wanted:
            return offer
    return None


def body(operation: Operation, paid: PaidTime) -> dict[str, Any]:
    """Return what is posted: paid from then on, for the hours that were confirmed."""
    order = order_of(operation)
    return {
        "name": order.name,
        "instance": {
            "cloud": order.cloud,
            "region": order.region,
            "shade_instance_type": order.instance_type,
            "rental_type": order.rental_type,
        },
        "auto_delete": {"date_threshold": amounts.after(paid.threshold, order.hours).isoformat()},
    }


def find(operation: Operation, client: EnginesClient) -> wire.Engine | None:
    """Read the engine; None if the API has none of its name. Raises EngineGone if it had, and ApiError."""
    if operation.engine is not None:
        return client.get(operation.uid)
    return next(iter(client.named(order_of(operation).name)), None)


def accepted(operation: Operation, dto: wire.Engine, now: datetime) -> End:
    """What the API's yes means: it is ordered and paid. Whether it comes, readings show."""
    return _on_its_way(operation, dto, now, answered=True)


def _on_its_way(operation: Operation, dto: wire.Engine, now: datetime, *, answered: bool) -> End:
    engine = _row(operation, dto, now)
    # Somebody may have asked something of it meanwhile: then it is found by its name until it is there.
    busy = Operation.objects.of(operation.team).filter(engine=engine, state__in=OPEN).exclude(pk=operation.pk)
    known: dict[str, Any] = {} if busy.exists() else {"engine": engine}
    note = f"{engine.name} is ordered, and paid. Its machine is being prepared."
    return End(State.WORKING, None, note, EVERY, after=_until(dto), progress=progress(dto, answered), **known)


def _row(operation: Operation, dto: wire.Engine, now: datetime) -> Engine:
    return snapshots.apply_one(operation.connection, dto, now)


def progress(dto: wire.Engine, answered: bool) -> dict[str, Any]:
    """Return {"answered", "machine": its status, "said": the provider's words}."""
    instance: Any = dto.get("instance") or {}
    said = {"machine": instance.get("status"), "said": instance.get("error")}
    return {"answered": answered, **{name: str(value)[:300] for name, value in said.items() if value}}


def _until(dto: wire.Engine) -> datetime | None:
    paid = amounts.read(dto.get("instance"))
    return paid.threshold if paid else None


def settle(operation: Operation, dto: wire.Engine | None, paid: Books, now: datetime) -> End | None:
    """Say what a reading of an ordered engine means; None while it goes on.

    Raises ApiError if only the books could tell, and they cannot be read.
    """
    if dto is None:
        return _gone(paid(), operation, "")
    instance: Any = dto.get("instance") or {}
    if dto.get("status") == EngineStatus.RUNNING:
        return _there(operation, dto, paid(), now)
    if dto.get("status") in amounts.OVER or instance.get("status") in GONE:
        _row(operation, dto, now)
        return _gone(paid(), operation, str(instance.get("error") or "")[:150])
    armed = operation.extension.armed_at
    if armed is not None and now - armed > LONGEST:
        minutes = LONGEST // timedelta(minutes=1)
        return _unused(
            paid(), operation, f"It has not come within {minutes} minutes. Its machine goes on costing: stop it."
        )
    return None


def found(operation: Operation, dto: wire.Engine, now: datetime) -> End:
    """What it means that an order whose answer was lost is in the list."""
    return _on_its_way(operation, dto, now, answered=False)


def _there(operation: Operation, dto: wire.Engine, paid: int | None, now: datetime) -> End:
    engine, after = _row(operation, dto, now), _until(dto)
    outcome = Outcome.CONFIRMED if _answered(operation) else Outcome.OBSERVED
    note = f"{engine.name} runs and takes tasks." + (f" Paid until {after:%Y-%m-%d %H:%M} UTC." if after else "")
    facts: dict[str, Any] = {"evidence": _evidence(operation), "after": after, "engine": engine, "cost": paid}
    return End(State.SUCCEEDED, outcome, note, **facts)


def _gone(paid: int | None, operation: Operation, said: str) -> End:
    """Its machine is gone before the engine ran. Whether that was paid is in the API's own books, if it has any."""
    why = (
        f"The machine did not come: {said.rstrip('. ')}." if said else "The machine is gone, and its engine never ran."
    )
    if paid is None:
        note = f"{why} A person must find out, in the API’s own ledger, whether it was charged."
        return End(State.NEEDS_ATTENTION, Outcome.AMBIGUOUS, note)
    if paid > 0:
        return _unused(paid, operation, why)
    return End(State.FAILED, Outcome.REFUNDED, f"{why} By the API’s books nothing is charged for it.")


def _unused(paid: int | None, operation: Operation, why: str) -> End:
    charged = amounts.dollars(operation.extension.cost if paid is None else paid)
    facts: dict[str, Any] = {"evidence": _evidence(operation), "cost": paid, "after": operation.extension.after}
    return End(State.FAILED, Outcome.UNUSED, f"{why} {charged} was charged.", **facts)


def _answered(operation: Operation) -> bool:
    return bool(operation.progress.get("answered"))


def _evidence(operation: Operation) -> Evidence:
    return Evidence.ANSWER if _answered(operation) else Evidence.READING
