"""POST /engines: a record for a self-hosted engine, or a cloud engine with its machine, paid up to its end."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.utils.text import slugify
from django.utils.timezone import now

from engines.controlplane import cloud, clouds, keys, money, problems
from engines.controlplane.enums import EntryKind
from engines.controlplane.models import ApiKey, Engine, Instance, Team, atomic, engine_id
from engines.controlplane.problems import NotBegun, Problem
from engines.controlplane.providers.base import Launch, Order, Refused, Unclear
from engines.controlplane.schemas import CreateIn, InstanceIn

SHORTEST = timedelta(hours=1)
CLOCKS_DIFFER = timedelta(minutes=5)  # an hour from now, as the caller's clock sees it


def create(team: Team, asked: CreateIn, key: ApiKey) -> Engine:
    """Create it and return it, pending. Raises Problem: 402, 422, 400 `create_failed` with nothing spent."""
    if asked.instance is None:
        return Engine.objects.create(
            team=team, name=asked.name, named=True, visibility=asked.visibility, config={"name": asked.name}
        )
    wanted = _offer(asked.instance)
    delete_at = _end(asked)
    price = int(wanted["hourly_price"])
    if price <= 0:
        raise Problem(400, "create_failed", "This type of machine has no hourly price.")
    instance, order = _pay(team, asked, wanted, delete_at, price, key)
    try:
        cloud.order(instance, order)
    except Refused as refusal:
        Engine.objects.filter(pk=instance.engine_id).update(deleted_at=now(), updated_at=now())
        raise Problem(400, "create_failed", f"The cloud refused: {refusal} Nothing was spent.") from refusal
    return instance.engine


def _offer(asked: InstanceIn) -> dict[str, Any]:
    """Return the InstanceType that is asked for, with the price of its region and rental."""
    try:
        types = clouds.types(asked.cloud)
    except (Refused, Unclear) as trouble:
        raise NotBegun(502, "provider_unclear", f"The cloud's offers cannot be read now: {trouble}") from trouble
    for each in types:
        if (each["cloud"], each["shade_instance_type"]) == (asked.cloud, asked.shade_instance_type):
            places = [place for place in each["availability"] if place["region"] == asked.region]
            if any(place.get("available") for place in places):
                return each
    raise problems.invalid_value(
        f"{asked.cloud} has no {asked.shade_instance_type} in {asked.region} now; see GET /instances/types.",
        field="instance",
    )


def _end(asked: CreateIn) -> datetime:
    """Return when the paid time ends."""
    given = asked.auto_delete or (asked.instance.auto_delete if asked.instance else None)
    if given is None or given.date_threshold is None:
        raise problems.invalid_value(
            "auto_delete.date_threshold is missing: say until when the machine is paid.",
            field="auto_delete.date_threshold",
        )
    ahead = given.date_threshold - now()
    longest = timedelta(hours=settings.LONGEST_PAID_HOURS)
    if not SHORTEST - CLOCKS_DIFFER <= ahead <= longest + CLOCKS_DIFFER:
        raise problems.invalid_value(
            f"auto_delete.date_threshold must be 1 to {settings.LONGEST_PAID_HOURS} hours ahead.",
            field="auto_delete.date_threshold",
        )
    return given.date_threshold


def _pay(
    team: Team, asked: CreateIn, wanted: dict[str, Any], delete_at: datetime, price: int, key: ApiKey
) -> tuple[Instance, Order]:
    """Commit engine, order and payment, so that a machine that exists is never unpaid or unknown."""
    machine = asked.instance
    assert machine is not None
    new_id = engine_id()
    given = asked.auto_delete or machine.auto_delete
    spend_limit = given.spend_threshold if given else None
    hours = Decimal((delete_at - now()) / timedelta(seconds=1)) / 3600
    with atomic():
        engine = Engine.objects.create(
            id=new_id, team=team, name=asked.name, named=True, visibility=asked.visibility, api_url=settings.API_URL
        )
        own_key, text = keys.issue(team, f"engine {asked.name}"[:200], ["engines:write"])
        instance = Instance.objects.create(
            engine=engine,
            name=f"{slugify(asked.name)[:40] or 'engine'}-{new_id.replace('_', '-')}",
            cloud=machine.cloud,
            region=machine.region,
            instance_type=machine.shade_instance_type,
            rental_type=machine.rental_type,
            hourly_price=price,
            configuration=wanted.get("configuration") or {},
            key=own_key,
            delete_at=delete_at,
            spend_limit=spend_limit,
            next_at=now() + cloud.LEASE,
        )
        payer = money.locked(team.pk)
        cost = money.price_of(price, hours)
        money.need(payer, cost)
        money.book(
            payer, EntryKind.CREATE, -cost, f"{asked.name} until {delete_at:%Y-%m-%d %H:%M %Z}", engine=engine, key=key
        )
    order = Order(
        name=instance.name,
        cloud=machine.cloud,
        region=machine.region,
        instance_type=machine.shade_instance_type,
        rental_type=machine.rental_type,
        delete_at=delete_at,
        spend_limit=spend_limit,
        launch=Launch(engine_id=new_id, engine_name=asked.name, api_url=settings.API_URL, api_key=text),
    )
    return instance, order
