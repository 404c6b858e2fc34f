"""For machines: is the process up, can it work, and its numbers."""

import logging
from collections.abc import Callable

import redis
from django.conf import settings
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

log = logging.getLogger(__name__)


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when database, migrations and broker are fine; else 503 with what is not."""
    wrong = {name: reason for name, check in CHECKS.items() if (reason := _reason(check))}
    return JsonResponse({"status": "not ready" if wrong else "ok", **wrong}, status=503 if wrong else 200)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus numbers, for this machine alone: a scraper elsewhere goes through a proxy that may."""
    if request.META.get("REMOTE_ADDR") not in ("127.0.0.1", "::1"):
        return HttpResponse("Only from this machine.", status=403, content_type="text/plain")
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)


def _database() -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT 1")


def _migrations() -> None:
    executor = MigrationExecutor(connections["default"])
    if missing := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise RuntimeError(f"{len(missing)} migrations are not applied; run manage.py migrate")


def _broker() -> None:
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1) as client:
        client.ping()


CHECKS: dict[str, Callable[[], None]] = {"database": _database, "migrations": _migrations, "broker": _broker}


def _reason(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception as error:  # whatever is wrong is the answer
        log.warning("not ready: %s", error)
        return str(error)[:300] or type(error).__name__
    return ""
