"""The API's addresses, and the answers that Django gives in place of a view."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path

from engines.controlplane import problems
from engines.controlplane.api import api
from engines.controlplane.middleware import Refusal

urlpatterns = [path("", api.urls)]


def _instead(status: int) -> Any:
    def answer(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
        return Refusal(problems.from_status(status))

    return answer


# Without these Django would render the portal's error pages.
handler400, handler403, handler404, handler500 = (_instead(status) for status in (400, 403, 404, 500))
