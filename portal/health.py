"""For machines: is the process up, can it work, and its numbers."""

import logging
from collections.abc import Callable, Iterator

import redis
from django.conf import settings
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.backoff import NoBackoff
from redis.retry import Retry

from portal.live.hub import open_streams

log = logging.getLogger(__name__)

PROXIED = {"HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP"}
ONCE = Retry(NoBackoff(), 0)
QUEUE = "celery"  # where its messages wait for a worker: Celery's default, and we name no other


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when database, migrations and broker are fine; else 503 with what is not. Details are in the log alone."""
    wrong = {name: reason for name, (check, reason) in CHECKS.items() if not _passes(name, check)}
    return JsonResponse({"status": "not ready" if wrong else "ok", **wrong}, status=503 if wrong else 200)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus numbers, for this machine alone: what comes through a proxy on it came from elsewhere."""
    if request.META.get("REMOTE_ADDR") not in ("127.0.0.1", "::1") or PROXIED & request.META.keys():
        return HttpResponse("Only from this machine.", status=403, content_type="text/plain")
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)


def _database() -> bool:
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT 1")
    return True


def _migrations() -> bool:
    executor = MigrationExecutor(connections["default"])
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def _broker() -> bool:
    with _client() as client:
        return bool(client.ping())


def _client() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1, retry=ONCE)


class Numbers(Collector):
    """What waits in the broker, and the streams of this process. What is about engines is in engines/metrics.py."""

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("portal_broker_up", "Whether the broker answers.")
        waiting = GaugeMetricFamily("portal_messages_waiting", "Wake-up messages that no worker has taken yet.")
        streams = GaugeMetricFamily("portal_live_streams", "Open event streams of this process.")
        streams.add_metric([], open_streams())
        try:
            with _client() as client:
                waiting.add_metric([], client.llen(QUEUE))
            up.add_metric([], 1)
        except (redis.RedisError, OSError) as error:
            log.warning("no numbers of the broker: %s", error)
            up.add_metric([], 0)
        yield from (up, waiting, streams)


REGISTRY.register(Numbers())


CHECKS: dict[str, tuple[Callable[[], bool], str]] = {
    "database": (_database, "The database does not answer."),
    "migrations": (_migrations, "Migrations are not applied, or cannot be read: run manage.py migrate."),
    "broker": (_broker, "The broker does not answer."),
}


def _passes(name: str, check: Callable[[], bool]) -> bool:
    try:
        return check()
    except Exception as error:  # each driver raises its own; whichever it is, this is not ready
        log.warning("not ready: %s: %s", name, error)
        return False
