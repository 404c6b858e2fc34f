"""Where browsers report what the content policy refused: a mistake of ours, or somebody's attempt."""

import json
import logging
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from limits import RateLimitItemPerMinute
from limits.strategies import FixedWindowRateLimiter
from prometheus_client import Counter

from portal.counting import Memory

log = logging.getLogger(__name__)

LONGEST: Final = 8192  # bytes of one report
FIELDS: Final = ("document-uri", "effective-directive", "blocked-uri", "source-file", "line-number")

reports = Counter("portal_csp_reports", "Reports of what the content policy refused.")
logged = FixedWindowRateLimiter(Memory())
LOGGED: Final = RateLimitItemPerMinute(20)  # of this process: anybody can send some, and they must not fill the disk


@csrf_exempt  # a browser sends no token with a report, and nothing is changed by one
@require_POST
def content_policy(request: HttpRequest) -> HttpResponse:
    """Log what was refused and where, query strings left out; 204, or 400 for what is not a report."""
    refused = _report(request)
    if refused is None:
        return HttpResponse("This is not a report.", status=400, content_type="text/plain")
    reports.inc()
    if logged.hit(LOGGED):
        log.warning("content policy: %s", json.dumps(refused))
    return HttpResponse(status=204)


def _report(request: HttpRequest) -> dict[str, str] | None:
    if len(request.body) > LONGEST:
        return None
    try:
        sent: Any = json.loads(request.body)
    except ValueError:
        return None
    report = sent.get("csp-report") if isinstance(sent, dict) else None
    if not isinstance(report, dict):
        return None
    return {name: str(report[name]).split("?")[0][:200] for name in FIELDS if name in report}
