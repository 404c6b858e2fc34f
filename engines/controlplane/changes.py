"""What changed in a team: the rows behind `GET /events`, oldest change first, a page at a time."""

from datetime import timedelta
from typing import Any, Generic, TypeVar

from django.db.models import Model, Q, QuerySet
from django.utils.timezone import now

from engines.controlplane import dto
from engines.controlplane.models import Task, Team, Worker
from engines.controlplane.streams import Look
from engines.controlplane.wakeups import ring, seen

M = TypeVar("M", bound=Model)

OVERLAP = timedelta(seconds=3)  # rows that were committed late are seen all the same; what was sent is not sent again
PAGE = 500


class Changes(Generic[M]):
    """Rounds through the rows that changed. Each begins a little before the last one did, and leaves nothing out."""

    def __init__(self, rows: QuerySet[M], changed_at: str) -> None:
        self._rows, self._changed_at = rows, changed_at
        self._began = now()
        self._after = (self._began - OVERLAP, "")  # when the last row that was given changed, and its id

    def page(self) -> list[M]:
        at, row_id = self._after
        if not row_id:
            self._began = now()
        later = Q(**{f"{self._changed_at}__gt": at}) | Q(**{self._changed_at: at, "pk__gt": row_id})
        rows = list(self._rows.filter(later).order_by(self._changed_at, "pk")[:PAGE])
        if len(rows) == PAGE:
            self._after = (getattr(rows[-1], self._changed_at), rows[-1].pk)
        else:
            self._after = (self._began - OVERLAP, "")
        return rows


def of_team(team: Team) -> Look:
    """Return what reads the team's changes from now on."""
    engines = Changes(dto.engines_ever().filter(team=team), "updated_at")
    workers = Changes(Worker.objects.filter(engine__team=team).only("engine_id", "status_at"), "status_at")
    tasks = Changes(Task.objects.filter(team=team), "updated_at")

    def look() -> tuple[list[tuple[str, dict[str, Any]]], bool]:
        changed, busy, moved = engines.page(), workers.page(), tasks.page()
        if PAGE in (len(changed), len(busy), len(moved)):
            ring(*seen(team.pk))  # there may be more: look again at once
        known = {row.pk for row in changed}
        theirs = {worker.engine_id for worker in busy} - known
        changed += dto.engines().filter(pk__in=theirs)
        return [*(("engines", dto.engine(row)) for row in changed), *(("tasks", dto.task(row)) for row in moved)], False

    return look
