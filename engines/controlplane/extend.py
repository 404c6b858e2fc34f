"""Extend a cloud engine's paid time: hold the money, ask the provider, and only then book both in one transaction.

The provider is told when to delete, not how much to add, so a call without a clear answer may be repeated until it
has one. Meanwhile the money stays held and the engine takes no other extension.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils.timezone import now

from engines.controlplane import clouds, money, problems, states
from engines.controlplane.cloud import AT_ONCE, LEASE, LOOK_OFTEN
from engines.controlplane.enums import EngineState, EntryKind, ExtensionState, FollowUp, InstanceStatus
from engines.controlplane.models import ApiKey, Engine, Extension, Instance, Team, atomic
from engines.controlplane.problems import Problem
from engines.controlplane.providers.base import NotNow, Refused, Unclear
from portal.failpoints import failpoint

log = logging.getLogger(__name__)

LONGEST = 24 * 365
SHORTEST = Decimal(1) / 3600  # a second: the end of paid time is told to the provider in seconds


def request(engine: Engine, asked: Any, key: ApiKey) -> None:
    """Buy `asked` hours more. Raises Problem: 400 `validation_error` or `extend_failed`, 402, 409, 502.

    502 `provider_unclear`: it is not known yet whether it happened. It will be settled here, and shows on the engine;
    asking again would ask for more hours.
    """
    hours = read_hours(asked)
    extension = _hold(engine, hours, key)
    failpoint("extend.held")
    try:
        settle(extension)
    except Refused as refusal:
        raise problems.extend_failed(f"The cloud refused: {refusal} Nothing was charged.") from refusal
    except Unclear as doubt:
        raise Problem(
            502,
            "provider_unclear",
            "The cloud gave no clear answer. The money is held and the extension will be settled by itself: read the "
            "engine again, and do not repeat this.",
        ) from doubt


def read_hours(asked: Any) -> Decimal:
    """Return the hours as asked. Raises Problem 400 `validation_error`."""
    fits = isinstance(asked, int | float) and not isinstance(asked, bool) and 0 < asked <= LONGEST
    # The text of a float is what the caller wrote; its binary value is not.
    hours = Decimal(str(asked)) if fits else Decimal(0)
    if hours < SHORTEST:
        raise Problem(400, "validation_error", "additional_hours must be a number greater than 0: a second or more.")
    return hours


def _hold(asked_of: Engine, hours: Decimal, key: ApiKey) -> Extension:
    with atomic():
        engine = states.locked(asked_of.pk)
        instance = _extendable(engine, hours)
        if Extension.objects.filter(engine=engine, state=ExtensionState.HELD).exists():
            raise problems.conflict("An extension of this engine is being settled. Read the engine again in a while.")
        cost = money.price_of(instance.hourly_price, hours)
        team = money.locked(engine.team_id)
        money.hold(team, cost)
        return Extension.objects.create(
            team=team,
            engine=engine,
            key=key,
            hours=hours,
            hourly_price=instance.hourly_price,
            cost_microcents=cost,
            before=instance.delete_at,
            after=instance.delete_at + timedelta(seconds=float(hours * 3600)),
            next_at=now() + LEASE,
        )


def _extendable(engine: Engine, hours: Decimal) -> Instance:
    instance = states.instance_of(engine)
    if instance is None:
        raise problems.extend_failed("This engine has no cloud machine: there is no paid time to extend.")
    if instance.status != InstanceStatus.ACTIVE or instance.tear_down:
        doing = "being given back" if instance.tear_down else instance.status
        raise problems.extend_failed(f"Its machine is {doing}, not active.")
    if engine.state == EngineState.STOPPING or engine.follow_up == FollowUp.RESTART:
        raise states.busy(engine)
    if instance.hourly_price <= 0:
        raise problems.extend_failed("Its machine has no hourly price.")
    if instance.delete_at <= now():
        raise problems.extend_failed("Its paid time is over.")
    most = now() + timedelta(hours=settings.LONGEST_PAID_HOURS)
    if instance.delete_at + timedelta(hours=float(hours)) > most:
        raise problems.extend_failed(f"Paid time may reach {settings.LONGEST_PAID_HOURS} hours ahead, no further.")
    return instance


def settle(extension: Extension, *, again: bool = False) -> None:
    """Ask the provider, and record its answer. Raises Refused, with the money released, or Unclear.

    `again`: it was asked before, and may have done it then. That it does not take this call says nothing about that.
    """
    instance = Instance.objects.get(engine=extension.engine_id)
    try:
        clouds.provider(instance.cloud).set_auto_delete(instance.machine_id, extension.after, instance.spend_limit)
    except Refused as refusal:
        if again and isinstance(refusal, NotNow):
            raise Unclear(str(refusal)) from refusal
        _close(extension, ExtensionState.REFUSED, lambda engine, team: None, str(refusal))
        raise
    failpoint("extend.provider_said_yes")
    _close(extension, ExtensionState.DONE, lambda engine, team: _book(extension, engine, team))
    failpoint("extend.booked")
    if extension.state == ExtensionState.REFUSED:
        raise Refused(extension.error)


def _close(extension: Extension, to: ExtensionState, effect: Callable[[Engine, Team], None], error: str = "") -> None:
    with atomic():
        engine = states.locked(extension.engine_id)
        rows = Extension.objects.filter(pk=extension.pk, state=ExtensionState.HELD)
        team = money.locked(extension.team_id)
        if to == ExtensionState.DONE and _is_leaving(engine):  # its spend limit was reached meanwhile
            to, effect, error = ExtensionState.REFUSED, lambda engine, team: None, "Its machine is being given back."
        if rows.update(state=to, error=error[:2000], settled_at=now()) == 1:
            extension.state, extension.error = to, error
            money.release(team, extension.cost_microcents)
            effect(engine, team)


def _is_leaving(engine: Engine) -> bool:
    instance = states.instance_of(engine)
    return instance is None or instance.tear_down or instance.status == InstanceStatus.DELETED


def _book(extension: Extension, engine: Engine, team: Team) -> None:
    text = f"{engine.name}: {extension.hours.normalize():f} h more"
    cost = -extension.cost_microcents
    money.book(team, EntryKind.EXTEND, cost, text, engine=engine, extension=extension, key=extension.key)
    Instance.objects.filter(engine=engine).update(delete_at=extension.after, updated_at=now())
    states.move(engine)


def is_due(machines: Q = clouds.ANY) -> bool:
    """Say whether `settle_held` would ask about one."""
    return _due(machines).exists()


def _due(machines: Q) -> QuerySet[Extension]:
    engines = Instance.objects.filter(machines).values("engine")
    return Extension.objects.filter(state=ExtensionState.HELD, next_at__lte=now(), engine__in=engines)


def settle_held(machines: Q = clouds.ANY) -> None:
    """Ask again about extensions of these machines whose answer was lost, or whose asker died."""
    for extension in _due(machines).order_by("next_at")[:AT_ONCE]:
        rows = Extension.objects.filter(pk=extension.pk, next_at=extension.next_at)
        if rows.update(next_at=now() + LEASE) != 1:
            continue
        try:
            settle(extension, again=True)
        except (Refused, Unclear) as trouble:
            log.warning("extension %s: %s", extension.pk, trouble)
            Extension.objects.filter(pk=extension.pk).update(next_at=now() + LOOK_OFTEN)
        except Exception:  # it is settled when its lease is over; the others need not wait for that
            log.exception("extension %s cannot be settled", extension.pk)
