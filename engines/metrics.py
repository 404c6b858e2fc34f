"""Numbers for whoever runs the portal, read from the database at each scrape: in four queries, with few labels."""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db import DatabaseError
from django.db.models import Count, F, Max, Min, Q
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engines.enums import OPEN
from engines.models import Automation, Operation
from engines.operations.alarms import late
from engines.snapshots import STALE_AFTER
from portal import clock
from portal.vault.models import Connection

log = logging.getLogger(__name__)

CONNECTIONS = 100  # with a line of their own: those that were not read for longest


class Fleet(Collector):
    def describe(self) -> list[Metric]:
        """Nothing: to be registered must not take a database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Without a database there are no numbers: `portal_database_up` says so, and the process's own still come."""
        up, found = GaugeMetricFamily("portal_database_up", "Whether these numbers could be read."), []
        try:
            now = clock.now()
            found = [*operations(now), *connections(now), *workers(now)]
        except DatabaseError as error:
            log.warning("no numbers: %s", error)
        up.add_metric([], float(bool(found)))
        yield up
        yield from found


def operations(now: datetime) -> list[Metric]:
    number = GaugeMetricFamily("portal_operations", "Operations, ever, by verb and state.", labels=["verb", "state"])
    oldest = GaugeMetricFamily("portal_operation_oldest_open_seconds", "Age of the oldest open operation; 0: none.")
    alarming = GaugeMetricFamily(
        "portal_operations_alarming", "Open operations older than their state allows.", labels=["verb", "state"]
    )
    asked = now
    rows = Operation.objects.values("verb", "state").order_by().annotate(Count("pk"), Min("requested_at"))
    for row in rows.annotate(alarming=Count("pk", filter=late(now))):
        number.add_metric([row["verb"], row["state"]], row["pk__count"])
        if row["state"] in OPEN:
            asked = min(asked, row["requested_at__min"])
            alarming.add_metric([row["verb"], row["state"]], row["alarming"])
    oldest.add_metric([], seconds(now - asked))
    return [number, oldest, alarming]


def connections(now: datetime) -> list[Metric]:
    age = GaugeMetricFamily(
        "portal_connection_last_pass_seconds",
        f"Since the last whole pass over a connection's engines; the {CONNECTIONS} oldest, those never read left out.",
        labels=["team", "connection"],
    )
    number = GaugeMetricFamily("portal_connections", "Connections, by how reading them goes.", labels=["reading"])
    failing = Q(failing_since__isnull=False)
    never = Q(failing_since__isnull=True, refreshed_at__isnull=True)
    counted = Connection.objects.aggregate(
        failing=Count("pk", filter=failing), never=Count("pk", filter=never), all=Count("pk")
    )
    for name in ("failing", "never"):
        number.add_metric([name], counted[name])
    number.add_metric(["ok"], counted["all"] - counted["failing"] - counted["never"])
    oldest = Connection.objects.filter(refreshed_at__isnull=False).order_by(F("refreshed_at").asc(), "pk")
    for pk, team, at in oldest.values_list("pk", "team__slug", "refreshed_at")[:CONNECTIONS]:
        if at:
            age.add_metric([team, str(pk)], seconds(now - at))
    return [number, age]


def workers(now: datetime) -> list[Metric]:
    number = GaugeMetricFamily("portal_workers", f"Workers that swept within {STALE_AFTER.seconds} s.")
    age = GaugeMetricFamily("portal_worker_last_seen_seconds", "Since any worker last swept; missing: never.")
    recent = Q(seen_at__gte=now - STALE_AFTER)
    counted = Automation.objects.aggregate(recent=Count("pk", filter=recent), last=Max("seen_at"))
    number.add_metric([], counted["recent"])
    if counted["last"]:
        age.add_metric([], seconds(now - counted["last"]))
    return [number, age]


def seconds(age: timedelta) -> float:
    return max(age.total_seconds(), 0.0)
